"""Scores in the one array that a program returns: [tokens, 1 + 2 K] floats.

Of each token: its log-probability, those of the K likeliest, and their ids, exact up to 2^24. K is
MAX_TOP, or a smaller vocabulary.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.logprobs import token_scores
from edgewise_edge.decoding.token_score import TokenScore


def unpack_scores(
    packed: NDArray[np.float32], following: Sequence[int], top: int
) -> tuple[TokenScore, ...]:
    """The scores of `following`, each with the `top` likeliest tokens there, or all of fewer."""
    packed, likeliest = packed[: len(following)], packed.shape[1] // 2
    top = min(top, likeliest)
    logprobs, ids = packed[:, 1 : 1 + top], packed[:, 1 + likeliest : 1 + likeliest + top]
    return tuple(token_scores(following, packed[:, 0], ids.astype(np.int32), logprobs))
