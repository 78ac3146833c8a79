"""One step of the model: the arrays it uses, and a signature bound to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.arrays import aligned, stacked
from edgewise_edge.runtime.backend import Step
from edgewise_edge.runtime.signatures import MASKED, new_row_names, top_size
from edgewise_edge.store.manifest import Architecture


@dataclass(frozen=True, slots=True)
class StepBuffers:
    """Inputs and outputs of a step of `length` tokens, apart from cache, mask and logits."""

    length: int
    inputs: dict[str, NDArray[Any]]
    new_rows: NDArray[np.float32]  # (layers x key | value, length, heads, head size)
    outputs: dict[str, NDArray[Any]]
    in_place: bool = False  # whether `new_rows` is part of a cache

    @classmethod
    def allocate(cls, shape: Architecture, length: int) -> Self:
        """Buffers of their own; pages that are never written take no memory."""
        inputs = {name: aligned((length,), np.int32) for name in ("tokens", "positions")}
        rows = stacked(shape.layers * 2, (length, shape.heads, shape.head_size), np.float32)
        return cls(length, inputs, rows, dict(zip(new_row_names(shape), rows, strict=True)))

    def last_of(self, length: int) -> Self:
        """Views for a step of `length` tokens that returns the logits of the last one."""
        last = aligned((1,), np.int32)
        last[0] = length - 1
        return self._first(length, {"last": last}, {})

    def scoring(self, next_tokens: Sequence[int], vocabulary_size: int) -> Self:
        """Views for a step of as many tokens that scores those which follow, in new arrays."""
        length = len(next_tokens)
        following = aligned((length,), np.int32)
        following[:] = next_tokens
        top = (length, top_size(vocabulary_size))
        scores = {
            "logprobs": aligned((length,), np.float32),
            "top_logprobs": aligned(top, np.float32),
            "top_ids": aligned(top, np.int32),
        }
        return self._first(length, {"next": following}, scores)

    def _first(
        self, length: int, inputs: dict[str, NDArray[Any]], results: dict[str, NDArray[Any]]
    ) -> Self:
        inputs = {name: array[:length] for name, array in self.inputs.items()} | inputs
        rows = {name: array[:length] for name, array in self.outputs.items()}
        return type(self)(length, inputs, self.new_rows[:, :length], rows | results)

    def writing_to(self, names: list[str], cache: NDArray[np.float32], position: int) -> Self:
        """The same, but the step writes its new rows straight into `cache` at `position`."""
        rows = cache[:, position : position + self.length]
        outputs = self.outputs | dict(zip(names, rows, strict=True))
        return type(self)(self.length, self.inputs, rows, outputs, in_place=True)


@dataclass(slots=True)
class BoundStep:
    """A signature bound to its buffers and to the rows of one cache."""

    buffers: StepBuffers
    cache: NDArray[np.float32]  # KVCache.rows
    mask: NDArray[np.float32]  # (new tokens, new tokens + cached rows)
    step: Step
    visible: int | None = None  # cached rows that a decode step's mask shows; None: unknown

    def show(self, rows: int) -> None:
        """Let a decode step attend to its own token and the first `rows` cached ones."""
        if self.visible == rows - 1:
            self.mask[0, rows] = 0
        else:  # a longer sequence may have used this cache before
            self.mask[0, : 1 + rows] = 0
            self.mask[0, 1 + rows :] = MASKED
        self.visible = rows

    def run(self, tokens: Sequence[int], position: int) -> None:
        """Process `tokens` at `position` and add their rows to the cache."""
        buffers, end = self.buffers, position + len(tokens)
        if len(tokens) == 1:  # assigning to a slice would make an array first
            buffers.inputs["tokens"][0], buffers.inputs["positions"][0] = tokens[0], position
        else:
            buffers.inputs["tokens"][:] = tokens
            buffers.inputs["positions"][:] = np.arange(position, end)
        self.step()
        if not buffers.in_place:
            self.cache[:, position:end] = buffers.new_rows
