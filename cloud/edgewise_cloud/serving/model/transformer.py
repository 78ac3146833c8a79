"""GPT-2 over slots of a shared cache: pure functions in keras.ops, for any backend to compile.

Each slot holds one sequence. Its keys and values are in `caches[layer][segment]`, a pair of tensors
[slots, heads, segment length, head size] each; segments follow each other along the sequence. A
program for short contexts reads only the first segments, in place: slicing one long cache would copy
it for every token.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Caches, Layout, Pair, Tensor, Weights
from edgewise_cloud.serving.model.scores import pack_scores
from edgewise_cloud.serving.model.slicing import dynamic_slice
from edgewise_edge.store.manifest import Architecture

_TABLES = ("wte.weight", "wpe.weight")  # looked up by row
_MASKED = -1e9
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformer:
    """The mathematics of the programs; `context` is the context bucket, one of `layout.contexts`."""

    shape: Architecture
    layout: Layout
    dtype: str = "float32"  # or bfloat16: of weights, caches and products

    def prepared(self, weights: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
        """checkpoint.weights() as the programs take them, one at a time, by name.

        Tokens are columns, and weights are on the left: XLA's products are 10 to 33 % faster that
        way than with tokens as rows. The query weights include the attention scale.
        """
        for name, value in weights.items():
            if name in _TABLES:
                yield name, value.astype(self.dtype)
                continue
            column = np.array(value.T if value.ndim > 1 else value[:, None])
            if ".attn.c_attn." in name:
                column[: self.shape.width] *= self.shape.head_size**-0.5
            yield name, column.astype(self.dtype)

    def empty_caches(self, make: Callable[[NDArray[np.float32]], Tensor]) -> Caches:
        """Empty caches, each tensor made by `make` in the backend's memory."""
        shape, layout = self.shape, self.layout

        def tensor(length: int) -> Tensor:
            sizes = (layout.slots, shape.heads, length, shape.head_size)
            return make(np.zeros(sizes, self.dtype))

        return [
            [(tensor(length), tensor(length)) for length in layout.segments]
            for _ in range(shape.layers)
        ]

    def decode(
        self, weights: Weights, caches: Caches, tokens: Tensor, positions: Tensor, *, context: int
    ) -> tuple[Tensor, Caches]:
        """Process one token in each of the first R slots: tokens[R] at positions[R].

        Returns the logits [vocabulary, R] and the caches.
        """
        (rows,), shape = tokens.shape, self.shape
        x = self._embed(weights, tokens, positions)
        mask = _mask(positions, context)[:, None, None, :]
        new_caches = []
        for layer, cache in enumerate(caches):
            name = f"h.{layer}"
            projected = ops.transpose(self._projected(weights, name, x), (0, 3, 1, 2))
            query, key, value = ops.unstack(projected, 3)  # each [R, heads, head size]
            cache = self._write_rows(cache, (key, value), positions, context)  # noqa: PLW2901
            seen = [(keys[:rows], values[:rows]) for keys, values in self._segments(cache, context)]
            attended = _attend(query[:, :, None, :], seen, mask)
            attended = ops.transpose(ops.reshape(attended, (rows, shape.width)))
            x = self._finish_block(weights, name, x, attended)
            new_caches.append(cache)
        return self._logits(weights, x), new_caches

    def prefill(
        self,
        weights: Weights,
        caches: Caches,
        tokens: Tensor,
        slot: Tensor,
        position: Tensor,
        *,
        context: int,
    ) -> tuple[Tensor, Caches]:
        """Prefill tokens[chunk] of one slot, from `position` on, a multiple of the chunk.

        The last chunk may be padded with any tokens: their cache entries are overwritten before
        anything reads them. Returns an empty tensor and the caches.
        """
        x, caches = self._chunk(weights, caches, tokens, slot, position, context)
        return x[:0], caches

    def score(
        self,
        weights: Weights,
        caches: Caches,
        tokens: Tensor,
        following: Tensor,
        slot: Tensor,
        position: Tensor,
        *,
        context: int,
    ) -> tuple[Tensor, Caches]:
        """Prefill as above, and score the token after each: following[chunk].

        Returns packed scores (scores.py) and the caches.
        """
        x, caches = self._chunk(weights, caches, tokens, slot, position, context)
        return pack_scores(self._logits(weights, x), following), caches

    def _chunk(
        self,
        weights: Weights,
        caches: Caches,
        tokens: Tensor,
        slot: Tensor,
        position: Tensor,
        context: int,
    ) -> tuple[Tensor, Caches]:
        """What the last block makes of a chunk's tokens, [width, chunk], and the caches."""
        (chunk,), shape = tokens.shape, self.shape
        positions = position + ops.arange(chunk, dtype="int32")
        x = self._embed(weights, tokens, ops.minimum(positions, shape.context_window - 1))
        mask = _mask(positions, context)[None]
        new_caches = []
        for layer, cache in enumerate(caches):
            name = f"h.{layer}"
            projected = ops.swapaxes(self._projected(weights, name, x), -1, -2)
            query, key, value = ops.unstack(projected, 3)  # each [heads, chunk, head size]
            cache = self._write_chunk(cache, (key, value), slot, position, context)  # noqa: PLW2901
            seen = [
                (_row(keys, slot)[0], _row(values, slot)[0])
                for keys, values in self._segments(cache, context)
            ]
            attended = ops.swapaxes(_attend(query, seen, mask), -1, -2)
            x = self._finish_block(weights, name, x, ops.reshape(attended, (shape.width, chunk)))
            new_caches.append(cache)
        return x, new_caches

    def copy(
        self, weights: Weights, caches: Caches, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Caches]:
        """Copy a slot's keys and values to another slot. Returns an empty tensor and the caches."""
        del weights

        def copied(part: Tensor) -> Tensor:
            return ops.slice_update(part, _start(target), _row(part, source))

        copies = [[(copied(keys), copied(values)) for keys, values in cache] for cache in caches]
        return ops.zeros((0,)), copies

    def _embed(self, weights: Weights, tokens: Tensor, positions: Tensor) -> Tensor:
        embedded = ops.take(weights["wte.weight"], tokens, axis=0)
        return ops.transpose(embedded + ops.take(weights["wpe.weight"], positions, axis=0))

    def _projected(self, weights: Weights, name: str, x: Tensor) -> Tensor:
        """Query, key and value of the columns of x: [3, heads, head size, columns]."""
        shape = self.shape
        qkv = _dense(weights, f"{name}.attn.c_attn", _norm(weights, f"{name}.ln_1", x))
        return ops.reshape(qkv, (3, shape.heads, shape.head_size, x.shape[-1]))

    def _finish_block(self, weights: Weights, name: str, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of a block: attention's output projection and the MLP, with residuals."""
        x = x + _dense(weights, f"{name}.attn.c_proj", attended)
        hidden = _dense(weights, f"{name}.mlp.c_fc", _norm(weights, f"{name}.ln_2", x))
        return x + _dense(weights, f"{name}.mlp.c_proj", ops.gelu(hidden, approximate=True))

    def _logits(self, weights: Weights, x: Tensor) -> Tensor:
        """[vocabulary, columns of x]."""
        logits = ops.matmul(weights["wte.weight"], _norm(weights, "ln_f", x))
        return ops.cast(logits, "float32")

    def _segments(self, cache: list[Pair], context: int) -> list[Pair]:
        return cache[: self.layout.contexts.index(context) + 1]

    def _starts(self, context: int) -> Iterator[tuple[int, int]]:
        """The start position and the length of each segment of a context bucket."""
        ends = self.layout.contexts
        for length, end in zip(self.layout.segments, ends[: ends.index(context) + 1], strict=False):
            yield end - length, length

    def _write_rows(
        self, cache: list[Pair], new: Pair, positions: Tensor, context: int
    ) -> list[Pair]:
        """Write each row's [heads, head size] at its own position, in whichever segment that is."""
        written = list(cache)
        for index, (start, length) in enumerate(self._starts(context)):
            local = positions - start
            at = ops.clip(local, 0, length - 1)
            inside = ((local >= 0) & (local < length))[:, None, None]
            keys, values = cache[index]
            written[index] = (
                _with_rows(keys, new[0], at, inside),
                _with_rows(values, new[1], at, inside),
            )
        return written

    def _write_chunk(
        self, cache: list[Pair], new: Pair, slot: Tensor, position: Tensor, context: int
    ) -> list[Pair]:
        """Write a chunk's [heads, chunk, head size] into the one segment that it belongs to."""
        written = list(cache)
        for index, (start, length) in enumerate(self._starts(context)):
            local = position - start
            inside = (local >= 0) & (local < length)
            at = ops.clip(local, 0, length - new[0].shape[1])
            keys, values = cache[index]
            written[index] = (
                _with_chunk(keys, new[0], slot, at, inside),
                _with_chunk(values, new[1], slot, at, inside),
            )
        return written


def _with_rows(cache: Tensor, new: Tensor, at: Tensor, inside: Tensor) -> Tensor:
    """`cache` with new[rows, heads, head size] at positions `at`, in the rows that are `inside`."""
    rows, heads, size = new.shape
    grid = [
        ops.arange(rows, dtype="int32")[:, None],
        ops.arange(heads, dtype="int32")[None, :],
        at[:, None],
    ]
    indices = ops.stack(
        [ops.reshape(ops.broadcast_to(part, (rows, heads)), (-1,)) for part in grid], axis=-1
    )
    held = ops.take_along_axis(cache[:rows], at[:, None, None, None], axis=2)[:, :, 0]
    update = ops.where(inside, new, held)
    return ops.scatter_update(cache, indices, ops.reshape(update, (-1, size)))


def _with_chunk(
    cache: Tensor, new: Tensor, slot: Tensor, position: Tensor, inside: Tensor
) -> Tensor:
    """`cache` with new[heads, chunk, head size] in one slot from `position` on, if `inside`."""
    start = _start(slot, position)
    held = dynamic_slice(cache, start, (1, *new.shape))
    return ops.slice_update(cache, start, ops.where(inside, new[None], held))


def _start(slot: Tensor, position: Tensor | int = 0) -> Tensor:
    zero = ops.zeros_like(slot)
    return ops.stack([slot, zero, zero + position, zero])


def _row(cache: Tensor, slot: Tensor) -> Tensor:
    return dynamic_slice(cache, _start(slot), (1, *cache.shape[1:]))


def _mask(positions: Tensor, context: int) -> Tensor:
    """[rows, context], to be added to scores: a row sees positions up to its own."""
    seen = ops.arange(context, dtype="int32")[None, :] <= positions[:, None]
    return ops.where(seen, 0.0, _MASKED)


def _attend(query: Tensor, seen: list[Pair], mask: Tensor) -> Tensor:
    """Attention of query [..., T, head size] over pairs of [..., segment, head size]."""
    scores = [ops.matmul(query, ops.swapaxes(keys, -1, -2)) for keys, _ in seen]
    scores = ops.cast(ops.concatenate(scores, axis=-1), "float32") + mask
    weights = ops.cast(ops.softmax(scores, axis=-1), query.dtype)
    attended, start = 0, 0
    for _, values in seen:
        length = values.shape[-2]
        attended += ops.matmul(weights[..., start : start + length], values)
        start += length
    return attended


def _dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    return ops.matmul(weights[f"{name}.weight"], x) + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    precise = ops.cast(x, "float32")
    centred = precise - ops.mean(precise, axis=0, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=0, keepdims=True)
    scaled = ops.cast(centred * ops.rsqrt(variance + _EPSILON), x.dtype)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
