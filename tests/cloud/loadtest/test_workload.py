"""The requests of a load test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan, TokenRange
from edgewise_cloud.loadtest.workload import Workload
from tests.cloud.loadtest.fake_service import MODEL

SHORT = {"prompt_tokens": TokenRange(6, 12), "max_tokens": TokenRange(10, 10)}


def workload(**options: object) -> Workload:
    return Workload(LoadPlan(target="127.0.0.1:1", **{**SHORT, **options}), MODEL)


def test_the_seed_determines_the_requests() -> None:
    """In any order; another seed gives others, and so does the warm-up."""
    first, second, other = (workload(seed=seed, shared_prefix=3) for seed in (1, 1, 2))
    requests = [first.request(n) for n in range(20)]
    assert [second.request(n) for n in reversed(range(20))] == requests[::-1]
    prompts = {
        tuple(request.message.token_ids)
        for request in (
            *requests,
            *(other.request(n) for n in range(20)),
            *(first.warm_up_request(n) for n in range(20)),
        )
    }
    assert len(prompts) == 60


@given(st.integers(0, 2**63 - 1), st.integers(1, 60), st.integers(1, 40), st.data())
def test_requests_are_as_planned(seed: int, longest: int, new: int, data: st.DataObject) -> None:
    """Their lengths are in range, their ids in the vocabulary, and they share the prefix."""
    shortest = data.draw(st.integers(1, longest))
    shared = data.draw(st.integers(0, shortest))
    made = workload(
        seed=seed,
        prompt_tokens=TokenRange(shortest, longest),
        max_tokens=TokenRange(1, new),
        shared_prefix=shared,
    )
    messages = [made.request(n).message for n in range(5)] + [made.warm_up_request(0).message]
    for message in messages:
        assert shortest <= message.prompt_tokens == len(message.token_ids) <= longest
        assert 1 <= message.max_tokens <= new
        assert max(message.token_ids) < MODEL.vocabulary_size
        assert message.vocabulary == MODEL.vocabulary
    assert len({tuple(message.token_ids[:shared]) for message in messages}) == 1


def test_requests_beyond_the_context_window_are_refused() -> None:
    """Before any is sent."""
    with pytest.raises(LoadTestError, match="context window is 100"):
        workload(prompt_tokens=TokenRange(8, 91), max_tokens=TokenRange(10, 10))


def test_the_share_to_cancel_is_cancelled_halfway() -> None:
    """About a quarter of four hundred."""
    requests = [workload(cancel_rate=0.25).request(n) for n in range(400)]
    assert 60 < sum(request.cancel_after == 5 for request in requests) < 140
    assert {request.cancel_after for request in requests} == {5, None}
