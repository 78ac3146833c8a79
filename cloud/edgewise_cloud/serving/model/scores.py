"""Scores of a chunk's tokens, in the one tensor that a program returns."""

import numpy as np
from keras import ops

from edgewise_cloud.serving.model.layout import Tensor
from edgewise_edge.decoding.token_score import MAX_TOP

_GROUP = 64  # tokens of the vocabulary whose largest logit is compared first


def pack_scores(logits: Tensor, following: Tensor) -> Tensor:
    """Scores of following[chunk] by logits[vocabulary, chunk], packed (packed_scores.py).

    So the logits stay where they are.
    """
    largest = ops.max(logits, axis=0)
    total = largest + ops.log(ops.sum(ops.exp(logits - largest), axis=0))
    given = ops.take_along_axis(logits, following[None], axis=0)
    top, ids = _likeliest(logits)
    logprobs = ops.concatenate([given, top], axis=0) - total
    return ops.transpose(ops.concatenate([logprobs, ops.cast(ids, "float32")], axis=0))


def _likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The K largest of logits[vocabulary, columns], largest first, and their indices: [K, columns].

    They are in the K groups with the largest maximum; XLA's top_k of the whole vocabulary takes
    longer than the product that gives the logits.
    """
    size, columns = logits.shape
    count, groups = min(MAX_TOP, size), -(-size // _GROUP)
    padded = ops.pad(logits, ((0, groups * _GROUP - size), (0, 0)), constant_values=-np.inf)
    best = ops.max(ops.reshape(padded, (groups, _GROUP, columns)), axis=1)
    _, chosen = ops.top_k(ops.transpose(best), min(count, groups))
    # In order, so that the first of equals wins.
    members = ops.sort(chosen, axis=1)[:, :, None] * _GROUP + ops.arange(_GROUP, dtype="int32")
    members = ops.transpose(ops.reshape(members, (columns, -1)))
    candidates = ops.take_along_axis(padded, members, axis=0)
    top, at = ops.top_k(ops.transpose(candidates), count)
    return ops.transpose(top), ops.take_along_axis(members, ops.transpose(at), axis=0)
