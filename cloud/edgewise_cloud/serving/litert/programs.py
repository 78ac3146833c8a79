"""The programs of a converted model: every step reads and writes the slots' caches in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgewise_cloud.serving.model.interface import Compilations
from edgewise_cloud.serving.model.layout import SCORE_CHUNK, Layout
from edgewise_edge.runtime.arrays import aligned, stacked
from edgewise_edge.runtime.backend import Backend, Step
from edgewise_edge.runtime.signatures import PREFILL, ROWS, SCORE, cache_names, fused, top_size
from edgewise_edge.store.manifest import Architecture

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class _Bound:
    """A signature bound to arrays of its own, and to caches."""

    inputs: Arrays
    outputs: Arrays
    step: Step

    def run(self, **inputs: ArrayLike) -> Arrays:
        """The outputs, which the next run overwrites."""
        for name, values in inputs.items():
            self.inputs[name][:] = values
        self.step()
        return self.outputs


class LiteRTPrograms:
    """Programs over a model with a row per slot.

    The caches are [layers x key | value, slots, positions, heads, head size]. A step of rows takes those
    of the first slots, a chunk those of one; the kernel finds the rows that a token attends to by its
    position. The system commits memory as rows are written.
    """

    def __init__(self, backend: Backend, shape: Architecture, slots: int) -> None:
        """Take a loaded model that has the signature ROWS."""
        window = Layout.for_window(slots, shape.context_window).contexts[-1]
        self.layout = Layout(slots=slots, segments=(window,), sizes=_sizes(slots))
        self._backend, self._shape = backend, shape
        size = (slots, window, shape.heads, shape.head_size)
        self._caches = stacked(2 * shape.layers, size, np.float16)
        self._logits = aligned((slots, shape.vocabulary_size), np.float32)
        self._lengths = [0] * slots  # rows that were written
        self._bound: dict[tuple[str, int, int], _Bound] = {}

    def compilations(self, sizes: Sequence[int], prefill_contexts: Sequence[int]) -> Compilations:
        """See Programs. LiteRT has compiled them; the first run of each takes memory, and time."""
        del prefill_contexts

        def run_each() -> None:  # one after the other: LiteRT runs one step at a time
            self.decode([0] * sizes[-1], [0] * sizes[-1], 0)
            self.prefill([0] * self.layout.chunk, 0, 0, 0)
            self.score([0] * SCORE_CHUNK, [0] * SCORE_CHUNK, 0, 0, 0)

        return Compilations(first=[run_each])

    def reset(self) -> None:
        """See Programs. Rows are written before they are read: there is nothing to empty."""
        self._lengths = [0] * self.layout.slots

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """See Programs. The next step overwrites the array."""
        del context
        for slot, position in enumerate(positions):
            self._wrote(slot, position + 1)
        bound = self._rows(len(tokens))
        return bound.run(tokens=tokens, positions=positions)["logits"]

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """See Programs."""
        del context
        self._run_chunk(PREFILL, slot, position, tokens=tokens)

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        """See Programs."""
        half = len(tokens) // 2
        self.prefill(tokens[:half], slots[0], positions[0], context)
        self.prefill(tokens[half:], slots[1], positions[1], context)

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """See Programs."""
        del context
        found = self._run_chunk(SCORE, slot, position, tokens=tokens, next=following)
        return np.column_stack([found["logprobs"], found["top_logprobs"], found["top_ids"]])

    def copy(self, source: int, target: int) -> None:
        """See Programs."""
        rows = self._lengths[target] = self._lengths[source]
        self._caches[:, target, :rows] = self._caches[:, source, :rows]

    def _run_chunk(self, signature: str, slot: int, position: int, **inputs: list[int]) -> Arrays:
        """A step over tokens of one slot. Padding past the context window is left out."""
        end = min(position + len(inputs["tokens"]), self._shape.context_window)
        self._wrote(slot, end)
        bound = self._chunk(signature, slot, end - position)
        cut = {name: values[: end - position] for name, values in inputs.items()}
        return bound.run(positions=np.arange(position, end), **cut)

    def _wrote(self, slot: int, rows: int) -> None:
        self._lengths[slot] = max(self._lengths[slot], rows)

    def _rows(self, rows: int) -> _Bound:
        def make() -> _Bound:
            outputs = {"logits": self._logits[:rows]}
            return self._bind(fused(ROWS), rows, self._caches[:, :rows], {}, outputs)

        return self._kept((ROWS, 0, rows), make)

    def _chunk(self, signature: str, slot: int, tokens: int) -> _Bound:
        def make() -> _Bound:
            caches, vocabulary = self._caches[:, slot], self._shape.vocabulary_size
            inputs, outputs = Arrays(), Arrays()
            if signature == PREFILL:
                inputs["last"] = aligned((1,), np.int32)  # whose logits nobody reads
                outputs["logits"] = aligned((vocabulary,), np.float32)
            else:
                inputs["next"] = aligned((tokens,), np.int32)
                outputs["logprobs"] = aligned((tokens,), np.float32)
                top = tokens, top_size(vocabulary)
                outputs["top_logprobs"] = aligned(top, np.float32)
                outputs["top_ids"] = aligned(top, np.int32)
            return self._bind(fused(signature), tokens, caches, inputs, outputs)

        return self._kept((signature, slot, tokens), make)

    def _kept(self, key: tuple[str, int, int], make: Callable[[], _Bound]) -> _Bound:
        if key not in self._bound:
            self._bound[key] = make()
        return self._bound[key]

    def _bind(
        self, signature: str, tokens: int, caches: NDArray[Any], inputs: Arrays, outputs: Arrays
    ) -> _Bound:
        inputs |= {name: aligned((tokens,), np.int32) for name in ("tokens", "positions")}
        named = dict(zip(cache_names(self._shape), caches, strict=True))
        step = self._backend.bind(signature, inputs | named, outputs)
        return _Bound(inputs, outputs, step)


def _sizes(slots: int) -> tuple[int, ...]:
    """1, 2, 3, 4, 6, 8, 12, 16..., all: a step takes as long as it has rows, and none is compiled."""
    powers = [1 << n for n in range(slots.bit_length())]
    return tuple(sorted({slots, *(n for p in powers for n in (p, p * 3 // 2) if n < slots)}))
