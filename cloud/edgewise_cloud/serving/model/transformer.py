"""GPT-2 over slots of a shared cache: pure functions in keras.ops, for any backend to compile.

Each slot holds one sequence. Its keys and values are in `caches[layer][segment]`, a pair of tensors
[slots, heads, segment length, head size] each; segments follow each other along the sequence. A
program for short contexts reads only the first segments, in place: slicing one long cache would copy
it for every token.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from edgewise_cloud.serving.model.attention import (
    attend,
    causal_mask,
    copy_slot,
    slot_pairs,
    write_chunk,
    write_rows,
)
from edgewise_cloud.serving.model.layout import Caches, Layout, Pair, Tensor, Weights
from edgewise_cloud.serving.model.scores import pack_scores
from edgewise_edge.store.manifest import Architecture

_TABLES = ("wte.weight", "wpe.weight")  # looked up by row
_EPSILON = 1e-5
_FEW_COLUMNS = 16


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
        segments = len(self.layout.bounds(context))
        mask = causal_mask(positions, context)[:, None, None, :]

        def attention(projected: Tensor, cache: list[Pair]) -> tuple[Tensor, list[Pair]]:
            query, key, value = ops.unstack(ops.transpose(projected, (0, 3, 1, 2)), 3)
            cache = write_rows(self.layout, cache, (key, value), positions, context)
            seen = [(keys[:rows], values[:rows]) for keys, values in cache[:segments]]
            attended = attend(query[:, :, None, :], seen, mask)
            return ops.transpose(ops.reshape(attended, (rows, shape.width))), cache

        x = self._embed(weights, tokens, positions)
        x, caches = self._blocks(weights, x, caches, attention)
        return self._logits(weights, x), caches

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

        Or chunks of several slots, one after the other in `tokens`: slot[chunks] and
        position[chunks]. The last chunk of a prompt may be padded with any tokens: their cache
        entries are overwritten before anything reads them. Returns an empty tensor and the caches.
        """
        x, caches = self._chunk(weights, caches, tokens, slot, position, context)
        return x[:0], caches

    prefill_two = prefill

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
        """What the last block makes of the chunks' tokens, [width, tokens], and the caches."""
        (size,), shape = tokens.shape, self.shape
        slots, starts = ops.reshape(slot, (-1,)), ops.reshape(position, (-1,))
        chunks = slots.shape[0]
        positions = starts[:, None] + ops.arange(size // chunks, dtype="int32")
        segments = len(self.layout.bounds(context))
        masks = [causal_mask(positions[chunk], context)[None] for chunk in range(chunks)]

        def attention(projected: Tensor, cache: list[Pair]) -> tuple[Tensor, list[Pair]]:
            parts = ops.split(ops.swapaxes(projected, -1, -2), chunks, axis=2)
            queries, keys, values = zip(*(ops.unstack(part, 3) for part in parts), strict=True)
            for chunk, new in enumerate(zip(keys, values, strict=True)):
                at = slots[chunk], starts[chunk]
                cache = write_chunk(self.layout, cache, new, *at, context)
            attended = [
                attend(query, slot_pairs(cache[:segments], slots[chunk]), masks[chunk])
                for chunk, query in enumerate(queries)
            ]
            columns = ops.swapaxes(ops.concatenate(attended, 1), -1, -2)
            return ops.reshape(columns, (shape.width, size)), cache

        flat = ops.minimum(ops.reshape(positions, (size,)), shape.context_window - 1)
        x = self._embed(weights, tokens, flat)
        return self._blocks(weights, x, caches, attention)

    def _blocks(
        self,
        weights: Weights,
        x: Tensor,
        caches: Caches,
        attention: Callable[[Tensor, list[Pair]], tuple[Tensor, list[Pair]]],
    ) -> tuple[Tensor, Caches]:
        """All blocks over the columns of x, and the new caches.

        `attention` gets a layer's query, key and value, [3, heads, head size, columns], and its cache;
        it returns [width, columns] and the new cache.
        """
        new_caches: Caches = []
        for layer, cache in enumerate(caches):
            name = f"h.{layer}"
            attended, new_cache = attention(self._projected(weights, name, x), cache)
            x = self._finish_block(weights, name, x, attended)
            new_caches.append(new_cache)
        return x, new_caches

    def copy(
        self, weights: Weights, caches: Caches, source: Tensor, target: Tensor
    ) -> tuple[Tensor, Caches]:
        """Copy a slot's keys and values to another slot. Returns an empty tensor and the caches."""
        del weights

        copied = partial(copy_slot, source=source, target=target)
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
        turn = _turn(hidden)
        activated = turn(ops.gelu(turn(hidden), approximate=True))
        return x + _dense(weights, f"{name}.mlp.c_proj", activated)

    def _logits(self, weights: Weights, x: Tensor) -> Tensor:
        """[vocabulary, columns of x]."""
        logits = ops.matmul(weights["wte.weight"], _norm(weights, "ln_f", x))
        return ops.cast(logits, "float32")


def _dense(weights: Weights, name: str, x: Tensor) -> Tensor:
    return ops.matmul(weights[f"{name}.weight"], x) + weights[f"{name}.bias"]


def _norm(weights: Weights, name: str, x: Tensor) -> Tensor:
    precise = ops.cast(x, "float32")
    centred = precise - ops.mean(precise, axis=0, keepdims=True)
    variance = ops.mean(ops.square(centred), axis=0, keepdims=True)
    scaled = ops.cast(centred * ops.rsqrt(variance + _EPSILON), x.dtype)
    turn = _turn(x)
    return turn(turn(scaled) * turn(weights[f"{name}.weight"]) + turn(weights[f"{name}.bias"]))


def _turn(x: Tensor) -> Callable[[Tensor], Tensor]:
    """What an operation between two turns does, it does to rows, if x has few columns.

    XLA then gives a product with it the columns one after the other in memory: of 16 columns, a
    block's products are 5 % faster that way, and the head's 15 %; of 128, they are slower.
    """
    return ops.transpose if x.shape[-1] <= _FEW_COLUMNS else (lambda same: same)
