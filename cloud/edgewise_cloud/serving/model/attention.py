"""A cache's segments, which belong to a group of heads: writing into them, and attention over them."""

from typing import Any

import keras
from keras import ops

from edgewise_cloud.serving.model.layout import Layout, Pair, Tensor

_MASKED = -1e9


def write_rows(
    layout: Layout, cache: list[Pair], new: Pair, positions: Tensor, context: int
) -> list[Pair]:
    """Write each row's [heads, head size] at its own position, in whichever segment that is."""
    written = list(cache)
    for index, (start, length) in enumerate(layout.bounds(context)):
        local = positions - start
        # Where a row is not in this segment, behind its end: XLA leaves such writes out.
        at = ops.where((local >= 0) & (local < length), local, length)
        keys, values = cache[index]
        written[index] = _with_rows(keys, new[0], at), _with_rows(values, new[1], at)
    return written


def write_chunk(
    layout: Layout, cache: list[Pair], new: Pair, slot: Tensor, position: Tensor, context: int
) -> list[Pair]:
    """Write a chunk's [heads, chunk, head size] into the one segment that it belongs to."""
    written = list(cache)
    for index, (start, length) in enumerate(layout.bounds(context)):
        local = position - start
        inside = (local >= 0) & (local < length)
        at = ops.clip(local, 0, length - new[0].shape[1])
        keys, values = cache[index]
        written[index] = (
            _with_chunk(keys, new[0], slot, at, inside),
            _with_chunk(values, new[1], slot, at, inside),
        )
    return written


def copy_slot(part: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """`part` with one slot's entries in another slot, too."""
    return ops.slice_update(part, _start(target), _slot(part, source))


def slot_pairs(seen: list[Pair], slot: Tensor) -> list[Pair]:
    """One slot's keys and values, [heads, segment, head size] each."""
    return [(_slot(keys, slot)[0], _slot(values, slot)[0]) for keys, values in seen]


def causal_mask(positions: Tensor, context: int) -> Tensor:
    """[rows, context], to be added to scores: a row sees positions up to its own."""
    seen = ops.arange(context, dtype="int32")[None, :] <= positions[:, None]
    return ops.where(seen, 0.0, _MASKED)


def attend(query: Tensor, seen: list[Pair], mask: Tensor) -> Tensor:
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


def _with_rows(cache: Tensor, new: Tensor, at: Tensor) -> Tensor:
    """`cache` with new[rows, heads, head size] at positions `at`."""
    rows, heads, size = new.shape
    grid = [
        ops.arange(rows, dtype="int32")[:, None],
        ops.arange(heads, dtype="int32")[None, :],
        at[:, None],
    ]
    indices = ops.stack(
        [ops.reshape(ops.broadcast_to(part, (rows, heads)), (-1,)) for part in grid], axis=-1
    )
    return ops.scatter_update(cache, indices, ops.reshape(new, (-1, size)))


def _with_chunk(
    cache: Tensor, new: Tensor, slot: Tensor, position: Tensor, inside: Tensor
) -> Tensor:
    """`cache` with new[heads, chunk, head size] in one slot from `position` on, if `inside`."""
    start = _start(slot, position)
    held = _dynamic_slice(cache, start, (1, *new.shape))
    return ops.slice_update(cache, start, ops.where(inside, new[None], held))


def _start(slot: Tensor, position: Tensor | int = 0) -> Tensor:
    zero = ops.zeros_like(slot)
    return ops.stack([slot, zero, zero + position, zero])


def _slot(part: Tensor, slot: Tensor) -> Tensor:
    return _dynamic_slice(part, _start(slot), (1, *part.shape[1:]))


def _dynamic_slice(tensor: Any, start: Any, sizes: tuple[int, ...]) -> Any:
    """The part of `tensor` that begins at start[dimensions] and has these sizes.

    keras.ops.slice would do, but TensorFlow's XLA recompiles it for every start.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.compiler.tf2xla.python import xla

        return xla.dynamic_slice(tensor, start, sizes)
    return keras.ops.slice(tensor, start, sizes)
