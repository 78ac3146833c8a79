"""How likely a token was where it stands."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.token_score import TokenScore


def token_score(logits: NDArray[np.float32], token_id: int, top: int) -> TokenScore:
    """The score of `token_id` by `logits` (vocabulary,), and of the `top` likeliest tokens."""
    largest = logits.max()
    total = float(largest) + float(np.log(np.exp(logits - largest).sum(dtype=np.float64)))
    ordered = _likeliest(logits, min(top, logits.size)) if top else ()
    return TokenScore(
        token_id,
        float(logits[token_id]) - total,
        tuple((int(id_), float(logits[id_]) - total) for id_ in ordered),
    )


def _likeliest(logits: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """The indices of the `count` largest, largest first."""
    likeliest = np.argpartition(logits, -count)[-count:]
    ordered: NDArray[np.int64] = likeliest[np.argsort(-logits[likeliest], kind="stable")]
    return ordered


def token_scores(
    token_ids: Sequence[int],
    logprobs: NDArray[np.float32],
    top_ids: NDArray[np.int32],
    top_logprobs: NDArray[np.float32],
) -> list[TokenScore]:
    """The scores of T tokens by `logprobs` (T,), and of the likeliest by arrays (T, top)."""
    likeliest = zip(top_ids.tolist(), top_logprobs.tolist(), strict=True)
    return [
        TokenScore(token, logprob, tuple(zip(ids, scores, strict=True)))
        for token, logprob, (ids, scores) in zip(
            token_ids, logprobs.tolist(), likeliest, strict=True
        )
    ]
