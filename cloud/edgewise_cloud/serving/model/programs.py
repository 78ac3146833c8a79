"""The transformer's programs, compiled by Keras's backend, over weights and caches it holds."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Layout
from edgewise_cloud.serving.model.state import Compiled, NamedWeights, State
from edgewise_cloud.serving.model.transformer import Transformer
from edgewise_edge.store.manifest import Architecture


class Programs(Protocol):
    """What a batch runs."""

    @property
    def layout(self) -> Layout:
        """How the caches are divided."""

    def reset(self) -> None:
        """Empty the caches."""

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """The logits [rows, vocabulary] after one token in each of the first slots."""

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """Prefill one chunk of a slot's prompt."""

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        """Prefill a chunk of each of two slots' prompts, one after the other in `tokens`."""

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """Prefill one chunk of a slot's tokens; packed scores of those after each (scores.py)."""

    def copy(self, source: int, target: int) -> None:
        """Copy one slot's keys and values to another slot."""


class CompiledPrograms:
    """Programs over one model's weights, compiled for each batch size and context as needed."""

    def __init__(
        self,
        weights: Mapping[str, NDArray[Any]],
        architecture: Architecture,
        slots: int,
        dtype: str = "float32",
    ) -> None:
        """Take weights by the names of checkpoint.weights()."""
        self.layout = Layout.for_window(slots, architecture.context_window)
        self._transformer = Transformer(shape=architecture, layout=self.layout, dtype=dtype)
        self._state = _state(self._transformer.prepared(weights), self._transformer)
        self._compiled: dict[tuple[str | int, ...], Compiled] = {}

    def reset(self) -> None:
        """See Programs."""
        self._state.reset()

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """See Programs."""
        program = self._program("decode", context=context)
        logits = program(np.asarray(tokens, np.int32), np.asarray(positions, np.int32))
        return np.ascontiguousarray(logits.T)

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """See Programs."""
        program = self._program("prefill", context=context)
        program(np.asarray(tokens, np.int32), np.int32(slot), np.int32(position))

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        """See Programs."""
        program = self._program("prefill", context=context)
        program(*(np.asarray(each, np.int32) for each in (tokens, slots, positions)))

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """See Programs."""
        program = self._program("score", context=context)
        ids = np.asarray(tokens, np.int32), np.asarray(following, np.int32)
        return program(*ids, np.int32(slot), np.int32(position))

    def copy(self, source: int, target: int) -> None:
        """See Programs."""
        self._program("copy")(np.int32(source), np.int32(target))

    def _program(self, name: str, **sizes: int) -> Compiled:
        key: tuple[str | int, ...] = (name, *sizes.values())
        if key not in self._compiled:
            program = partial(getattr(self._transformer, name), **sizes)
            self._compiled[key] = self._state.compile(program)
        return self._compiled[key]


def _state(weights: NamedWeights, transformer: Transformer) -> State:
    """Imported here: each is installed only with its backend."""
    if keras.backend.backend() == "jax":
        from edgewise_cloud.serving.model.jax_state import JaxState

        return JaxState(weights, transformer)
    from edgewise_cloud.serving.model.tensorflow_state import TensorFlowState

    return TensorFlowState(weights, transformer)
