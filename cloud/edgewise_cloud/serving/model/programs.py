"""The transformer's programs, compiled by Keras's backend, over weights and caches it holds."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.state import Compiled, State, Weights
from edgewise_cloud.serving.model.transformer import Transformer


class Programs:
    """Decode, prefill and copy, for each number of slots and each context that will occur."""

    def __init__(self, transformer: Transformer, weights: Mapping[str, NDArray[Any]]) -> None:
        self._transformer = transformer
        self._state = _state(transformer.prepared(weights), transformer)
        self._compiled: dict[tuple[str | int, ...], Compiled] = {}

    def reset(self) -> None:
        """Empty the caches."""
        self._state.reset()

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """The logits [rows, vocabulary] after one token in each of the first slots."""
        program = self._program("decode", context=context)
        logits = program(np.asarray(tokens, np.int32), np.asarray(positions, np.int32))
        return np.ascontiguousarray(logits.T)

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """Read a chunk of one slot's text."""
        program = self._program("prefill", context=context)
        program(np.asarray(tokens, np.int32), np.int32(slot), np.int32(position))

    def copy(self, source: int, target: int) -> None:
        """Copy what one slot has read to another."""
        self._program("copy")(np.int32(source), np.int32(target))

    def _program(self, name: str, **sizes: int) -> Compiled:
        key: tuple[str | int, ...] = (name, *sizes.values())
        if key not in self._compiled:
            program = partial(getattr(self._transformer, name), **sizes)
            self._compiled[key] = self._state.compile(program)
        return self._compiled[key]


def _state(weights: Weights, transformer: Transformer) -> State:
    """Imported here: each is there only where its backend is."""
    if keras.backend.backend() == "jax":
        from edgewise_cloud.serving.model.jax_state import JaxState

        return JaxState(weights, transformer)
    from edgewise_cloud.serving.model.tensorflow_state import TensorFlowState

    return TensorFlowState(weights, transformer)
