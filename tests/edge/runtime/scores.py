"""What the tests of scores share."""

from collections.abc import Sequence
from itertools import pairwise

import pytest

from edgewise_edge import TokenScore
from edgewise_edge.decoding.logprobs import token_score
from edgewise_edge.runtime.session import Runtime


def scores_one_by_one(runtime: Runtime, tokens: Sequence[int], top: int) -> list[TokenScore]:
    """The scores of `tokens`, from decode steps alone."""
    session = runtime.session()
    pairs = pairwise(tokens)
    following = [token_score(session.forward([token]), after, top) for token, after in pairs]
    return [TokenScore(tokens[0], None), *following]


def assert_close(found: Sequence[TokenScore], expected: Sequence[TokenScore]) -> None:
    """The same tokens and log-probabilities, up to rounding: two may be about equally likely."""
    assert [score.token_id for score in found] == [score.token_id for score in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
        assert [logprob for _, logprob in one.top] == pytest.approx(
            [logprob for _, logprob in other.top], abs=1e-4
        )
        likely = dict(one.top)
        for token, logprob in other.top[:-1]:
            assert likely.get(token, one.top[-1][1] if one.top else None) == pytest.approx(
                logprob, abs=1e-4
            )
