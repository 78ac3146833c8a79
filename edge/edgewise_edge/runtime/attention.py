"""Binding steps to a cache: with builtin ops for attention, or with our kernel for it.

Both read the cache where it lies. Builtin ops read its first rows, all of them, so the rows that a step
must not see are masked, and a step of another size resizes the model. The kernel (litert/attention.c)
finds the rows that it needs by the tokens' positions, and writes the new ones itself.
"""

from dataclasses import replace
from typing import Protocol

import numpy as np

from edgewise_edge.runtime.arrays import ALIGNMENT, aligned
from edgewise_edge.runtime.backend import Backend, Tensors
from edgewise_edge.runtime.kv_cache import KVCache, padded
from edgewise_edge.runtime.signatures import DECODE, MASKED, SCORE, fused, new_row_names
from edgewise_edge.runtime.step import BoundStep, StepBuffers
from edgewise_edge.store.manifest import Architecture


class Attention(Protocol):
    """How the steps of a loaded model attend to a cache."""

    cache_type: type[np.generic]  # of the caches' numbers

    def decode(self, cache: KVCache, position: int) -> BoundStep:
        """A step of one token at `position`."""
        ...

    def chunk(
        self, signature: str, buffers: StepBuffers, cache: KVCache, position: int
    ) -> BoundStep:
        """A step of many tokens from `position` on, each of which attends to those before it."""
        ...


class BuiltinAttention:
    """Attention by builtin ops, over float32 caches."""

    cache_type: type[np.generic] = np.float32

    def __init__(self, backend: Backend, shape: Architecture) -> None:
        self._backend = backend
        self._row_names = new_row_names(shape)
        self._single = StepBuffers.allocate(shape, 1)
        # Whether chunks write their rows straight into the cache, which needs aligned rows.
        self.writes_in_place = shape.width * np.dtype(self.cache_type).itemsize % ALIGNMENT == 0

    def decode(self, cache: KVCache, position: int) -> BoundStep:
        """A step whose rows are padded, so that the model is seldom resized."""
        rows, bound = padded(position), cache.decode_step
        if bound is None or bound.mask.shape[1] != 1 + rows:
            bound = cache.decode_step = self._bind(DECODE, self._single, cache, rows)
        bound.show(position)
        return bound

    def chunk(
        self, signature: str, buffers: StepBuffers, cache: KVCache, position: int
    ) -> BoundStep:
        """A step with as many rows as there are."""
        length = buffers.length
        if self.writes_in_place:
            buffers = buffers.writing_to(self._row_names, cache.rows, position)
        # An empty cache still has one row as input: it is masked, so the step may write to it.
        bound = self._bind(signature, buffers, cache, max(1, position))
        bound.mask[:, :length] = np.triu(np.full((length, length), MASKED, np.float32), k=1)
        bound.mask[:, length : length + position] = 0
        return bound

    def _bind(self, signature: str, buffers: StepBuffers, cache: KVCache, rows: int) -> BoundStep:
        """`signature` on the first `rows` rows of `cache`, all masked."""
        mask = aligned((buffers.length, buffers.length + rows), np.float32)
        mask[:] = MASKED
        inputs = buffers.inputs | {"mask": mask} | cache.inputs(rows)
        step = self._backend.bind(signature, inputs, _outputs(signature, buffers, cache))
        return BoundStep(buffers, cache.rows, mask, step)


class FusedAttention:
    """Attention by our kernel, over float16 caches."""

    cache_type: type[np.generic] = np.float16
    _NO_MASK = np.empty((1, 0), np.float32)

    def __init__(self, backend: Backend, shape: Architecture) -> None:
        self._backend = backend
        self._single = StepBuffers.allocate(shape, 1)

    def decode(self, cache: KVCache, position: int) -> BoundStep:
        """A step that is bound to a cache once."""
        if cache.decode_step is None:
            cache.decode_step = self.chunk(DECODE, self._single, cache, position)
        self._require_space(cache, position + 1)
        return cache.decode_step

    def chunk(
        self, signature: str, buffers: StepBuffers, cache: KVCache, position: int
    ) -> BoundStep:
        """A step on the whole cache."""
        self._require_space(cache, position + buffers.length)
        inputs = buffers.inputs | cache.inputs(cache.tokens)
        step = self._backend.bind(fused(signature), inputs, _outputs(signature, buffers, cache))
        return BoundStep(replace(buffers, in_place=True), cache.rows, self._NO_MASK, step)

    @staticmethod
    def _require_space(cache: KVCache, tokens: int) -> None:
        """LiteRT does not say so when the kernel refuses a position."""
        if tokens > cache.tokens:
            raise ValueError(f"the cache has space for {cache.tokens} tokens, not {tokens}")


def _outputs(signature: str, buffers: StepBuffers, cache: KVCache) -> Tensors:
    return buffers.outputs if signature == SCORE else buffers.outputs | {"logits": cache.logits}


def attention(backend: Backend, shape: Architecture) -> Attention:
    """The kernel's, where there are the kernel and the model's signatures for it."""
    chosen = FusedAttention if fused(DECODE) in backend.signatures else BuiltinAttention
    return chosen(backend, shape)
