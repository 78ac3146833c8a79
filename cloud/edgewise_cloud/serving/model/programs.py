"""The transformer's programs, compiled by Keras's backend, over weights and caches it holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.interface import Compilations
from edgewise_cloud.serving.model.layout import SCORE_CHUNK, Layout
from edgewise_cloud.serving.model.state import Arguments, Compiled, NamedWeights, State
from edgewise_cloud.serving.model.transformer import Transformer
from edgewise_edge.store.manifest import Architecture


class _Key(NamedTuple):
    """A program and its sizes."""

    name: str
    tokens: int  # rows of `decode`, else the chunk
    context: int

    def can_replace(self, other: "_Key") -> bool:
        """Whether it computes, in more time, what the other does."""
        return (
            self.name == other.name
            and self.tokens >= other.tokens
            and self.context >= other.context
        )


class CompiledPrograms:
    """Programs over one model's weights, compiled for each batch size and context.

    One that `compilations` has promised is replaced by a larger one until it is compiled. Any
    other is compiled when it is called first.
    """

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
        self._compiled: dict[_Key, Compiled] = {}
        self._promised: frozenset[_Key] = frozenset()

    def compilations(self, sizes: Sequence[int], prefill_contexts: Sequence[int]) -> Compilations:
        """See Programs. First comes the largest program of each kind, later short contexts first."""
        layout = self.layout
        decode = [_Key("decode", size, context) for context in layout.contexts for size in sizes]
        prefill = [_Key("prefill", layout.chunk, context) for context in prefill_contexts]
        # One for all lengths: scores are rare, and each program makes the start longer.
        score = _Key("score", SCORE_CHUNK, layout.contexts[-1])
        first = [decode.pop(), score, prefill.pop(), _Key("copy", 0, 0)]
        two = _Key("prefill_two", 2 * layout.chunk, prefill_contexts[0])
        later = sorted([*prefill, two, *decode], key=lambda key: key.context)
        self._promised = frozenset(later)
        return Compilations(list(self._missing(first)), list(self._missing(later)))

    def reset(self) -> None:
        """See Programs in interface.py."""
        self._state.reset()

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """See Programs."""
        rows = len(tokens)
        key, program = self._program(_Key("decode", rows, context))
        # Rows beyond those asked for write nothing: their position is in no segment.
        padding = key.tokens - rows
        positions = [*positions, *[self.layout.contexts[-1]] * padding]
        ids = np.asarray([*tokens, *[0] * padding], np.int32)
        logits = program(ids, np.asarray(positions, np.int32))
        return np.ascontiguousarray(logits[:, :rows].T)

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """See Programs."""
        _, program = self._program(_Key("prefill", len(tokens), context))
        program(np.asarray(tokens, np.int32), np.int32(slot), np.int32(position))

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        """See Programs."""
        key = _Key("prefill_two", len(tokens), context)
        if key in self._promised and key not in self._compiled:
            half = len(tokens) // 2
            self.prefill(tokens[:half], slots[0], positions[0], context)
            self.prefill(tokens[half:], slots[1], positions[1], context)
            return
        _, program = self._program(key)
        program(*(np.asarray(each, np.int32) for each in (tokens, slots, positions)))

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """See Programs."""
        _, program = self._program(_Key("score", len(tokens), context))
        ids = np.asarray(tokens, np.int32), np.asarray(following, np.int32)
        return program(*ids, np.int32(slot), np.int32(position))

    def copy(self, source: int, target: int) -> None:
        """See Programs."""
        _, program = self._program(_Key("copy", 0, 0))
        program(np.int32(source), np.int32(target))

    def _program(self, key: _Key) -> tuple[_Key, Compiled]:
        if key not in self._compiled:
            larger = [other for other in list(self._compiled) if other.can_replace(key)]
            if key in self._promised and larger:
                key = min(larger, key=lambda other: other.tokens * other.context)
            else:
                self._compile(key)
        return key, self._compiled[key]

    def _missing(self, keys: Sequence[_Key]) -> Iterator[Callable[[], None]]:
        for key in keys:
            if key not in self._compiled:
                yield partial(self._compile, key)

    def _compile(self, key: _Key) -> None:
        program = getattr(self._transformer, key.name)
        if key.context:
            program = partial(program, context=key.context)
        name = f"{key.name}_{key.tokens}_{key.context}"
        self._compiled[key] = self._state.compile(name, program, _examples(key))


def _examples(key: _Key) -> Arguments:
    tokens, number = np.zeros(key.tokens, np.int32), np.int32(0)
    two = np.zeros(2, np.int32)
    return {
        "decode": (tokens, tokens),
        "prefill": (tokens, number, number),
        "prefill_two": (tokens, two, two),
        "score": (tokens, tokens, number, number),
        "copy": (number, number),
    }[key.name]


def _state(weights: NamedWeights, transformer: Transformer) -> State:
    """Imported here: each is installed only with its backend."""
    if keras.backend.backend() == "jax":
        from edgewise_cloud.serving.model.jax_state import JaxState

        return JaxState(weights, transformer)
    from edgewise_cloud.serving.model.tensorflow_state import TensorFlowState

    return TensorFlowState(weights, transformer)
