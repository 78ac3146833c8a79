"""The load generator without a service: what is planned, sent and counted."""

import json
import math
from array import array
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan, Span, parse_duration, parse_span
from edgewise_cloud.loadtest.record import Outcome, Record
from edgewise_cloud.loadtest.statistics import Percentiles, summarise
from edgewise_cloud.loadtest.workload import Prompts
from edgewise_proto import generation_pb2 as pb

MODEL = pb.GetModelResponse(
    name="fake", vocabulary="v" * 64, vocabulary_size=50, context_window=100
)

SHORT = {"prompt_tokens": Span(6, 12), "max_tokens": Span(10, 10), "warm_up": 0}


def record(due: float = 0.0, *arrivals: float, **fields: object) -> Record:
    defaults: dict[str, object] = {
        "number": 0,
        "stream": 0,
        "prompt_tokens": 10,
        "max_tokens": 4,
        "due": due,
        "sent": due,
        "arrivals": array("d", arrivals),
    }
    return Record(**defaults | fields)


def test_percentiles_lie_between_the_nearest_values() -> None:
    """Of 0 to 100: themselves. Of 1 and 2: on the line between. Of nothing: nothing."""
    assert Percentiles.of([float(n) for n in range(101)]) == Percentiles(50, 90, 99, 100)
    assert Percentiles.of([2.0, 1.0]) == Percentiles(1.5, 1.9, 1.99, 2)
    assert Percentiles.of([]) == Percentiles(None, None, None, None)


def test_a_summary_computed_by_hand() -> None:
    """Two answers, one of them unfinished, in a window of ten seconds."""
    summary = summarise(
        [
            record(1, 3, 4, 6, outcome=Outcome.COMPLETED, ended=6.5, queued=0.5),
            record(2, 3, 9, 20),  # the last token came too late
        ],
        start=0,
        end=10,
    )
    assert summary.generated_tokens == 5
    assert summary.tokens_per_second == 0.5
    assert summary.requests_per_second == 0.1
    assert summary.prompt_tokens == 20
    assert summary.time_to_first_token == Percentiles(1.5, 1.9, 1.99, 2)
    assert (summary.gap.p50, summary.gap.max) == (2, 6)  # of 1, 2 and 6
    assert summary.worst_gap_over_median == 3
    assert summary.total.max == 5.5
    assert summary.queued.max == 0.5
    assert (summary.completed, summary.unfinished) == (1, 1)


def test_errors_are_counted_by_code_and_wrong_answers_count_for_nothing() -> None:
    """How soon a refusal came is measured; tokens of a wrong answer are not."""
    summary = summarise(
        [
            record(1, outcome=Outcome.FAILED, code="RESOURCE_EXHAUSTED", ended=1.25),
            record(1, outcome=Outcome.FAILED, code="RESOURCE_EXHAUSTED", ended=1.5),
            record(1, 2, 3, outcome=Outcome.FAILED, code="INTERNAL", ended=4.0),
            record(1, 2, 3, outcome=Outcome.WRONG, ended=4.0),
        ],
        start=0,
        end=10,
    )
    assert summary.errors == {"INTERNAL": 1, "RESOURCE_EXHAUSTED": 2}
    assert summary.time_to_refusal.max == 0.5
    assert summary.wrong == 1
    assert summary.generated_tokens == 2
    assert summary.completed == 0
    assert summary.total.max is None


moments = st.floats(0, 20, allow_nan=False)


@given(
    st.lists(
        st.builds(
            lambda due, arrivals, outcome: record(
                due,
                *sorted(arrivals),
                outcome=outcome,
                code="INTERNAL" if outcome is Outcome.FAILED else None,
            ),
            moments,
            st.lists(moments, max_size=5),
            st.sampled_from(Outcome),
        )
    )
)
def test_each_request_is_one_thing(records: list[Record]) -> None:
    """Whatever became of them, the counts add up, and no more tokens are counted than came."""
    summary = summarise(records, start=5, end=10)
    assert summary.requests == sum(each.due <= 10 for each in records)
    assert summary.requests == (
        summary.completed
        + summary.cancelled
        + summary.unfinished
        + summary.wrong
        + sum(summary.errors.values())
    )
    assert summary.generated_tokens <= sum(len(each.arrivals) for each in records)
    json.dumps(summary.as_dict(), allow_nan=False)


# Plans and prompts.


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("2m", 120), ("90", 90), ("1.5h", 5400), ("500ms", 0.5), (" 7 s ", 7)],
)
def test_durations(text: str, seconds: float) -> None:
    """Plain numbers are seconds."""
    assert parse_duration(text) == seconds


@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_spans_are_read_as_they_are_written(low: int, more: int) -> None:
    """One number where both ends are the same."""
    span = Span(low, low + more)
    assert parse_span(str(span)) == span


@given(st.text() | st.text("0123456789.-smh ", max_size=8))
def test_any_text_is_understood_or_refused(text: str) -> None:
    """With LoadTestError, and nothing else."""
    with suppress(LoadTestError):
        assert 0 <= parse_duration(text) < math.inf
    with suppress(LoadTestError):
        assert parse_span(text).low >= 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target": "localhost"}, "HOST:PORT"),
        ({"target": ":50051"}, "HOST:PORT"),
        ({"target": "host:99999"}, "HOST:PORT"),
        ({"streams": 0}, "streams"),
        ({"requests": 0}, "requests"),
        ({"connections": -1}, "connections"),
        ({"duration": 0.0}, "duration"),
        ({"duration": float("nan")}, "duration"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"deadline": 0.0}, "deadline"),
        ({"deadline": 1e300}, "deadline"),
        ({"prompt_tokens": Span(0, 5)}, "prompt_tokens"),
        ({"max_tokens": Span(9, 5)}, "max_tokens"),
        ({"cancel_rate": 1.5}, "cancel_rate"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"shared_prefix": 65}, "shared_prefix"),
        ({"seed": -1}, "seed"),
        ({"warm_up": -1}, "warm_up"),
        ({"wait": float("nan")}, "wait"),
    ],
)
def test_senseless_plans_are_refused(options: dict[str, object], words: str) -> None:
    """By the name of the option."""
    with pytest.raises(LoadTestError, match=words):
        LoadPlan(**{"target": "127.0.0.1:50051", **options})


def prompts(**options: object) -> Prompts:
    return Prompts(LoadPlan(target="127.0.0.1:1", **{**SHORT, **options}), MODEL)


def test_the_same_seed_sends_the_same_requests() -> None:
    """In any order; another seed sends others, and so does the warm-up."""
    first, second, other = (prompts(seed=seed, shared_prefix=3) for seed in (1, 1, 2))
    jobs = [first.job(n) for n in range(20)]
    assert [second.job(n) for n in reversed(range(20))] == jobs[::-1]
    texts = {
        tuple(job.message.token_ids)
        for job in (
            *jobs,
            *(other.job(n) for n in range(20)),
            *(first.warm_up_job(n) for n in range(20)),
        )
    }
    assert len(texts) == 60


@given(st.integers(0, 2**63 - 1), st.integers(1, 60), st.integers(1, 40), st.data())
def test_prompts_are_as_planned(seed: int, longest: int, new: int, data: st.DataObject) -> None:
    """Of the lengths asked for, with ids of the vocabulary, and the shared beginning."""
    shortest = data.draw(st.integers(1, longest))
    shared = data.draw(st.integers(0, shortest))
    made = prompts(
        seed=seed,
        prompt_tokens=Span(shortest, longest),
        max_tokens=Span(1, new),
        shared_prefix=shared,
    )
    messages = [made.job(n).message for n in range(5)] + [made.warm_up_job(0).message]
    for message in messages:
        assert shortest <= message.prompt_tokens == len(message.token_ids) <= longest
        assert 1 <= message.max_tokens <= new
        assert max(message.token_ids) < MODEL.vocabulary_size
        assert message.vocabulary == MODEL.vocabulary
    assert len({tuple(message.token_ids[:shared]) for message in messages}) == 1


def test_requests_beyond_the_context_window_are_refused_at_the_start() -> None:
    """Rather than a run of errors."""
    with pytest.raises(LoadTestError, match="context window is 100"):
        prompts(prompt_tokens=Span(8, 91), max_tokens=Span(10, 10))


def test_the_share_to_cancel_is_cancelled_half_way() -> None:
    """About a quarter of four hundred."""
    jobs = [prompts(cancel_rate=0.25).job(n) for n in range(400)]
    assert 60 < sum(job.cancel_after == 5 for job in jobs) < 140
    assert {job.cancel_after for job in jobs} == {5, None}


# Against services.


def test_time_to_first_token_counts_from_when_a_request_was_due() -> None:
    """What the client itself was late is not hidden."""
    summary = summarise([record(1, 5, sent=4, outcome=Outcome.COMPLETED, ended=6)], 0, 10)
    assert summary.time_to_first_token.max == 4
    assert summary.total.max == 5
