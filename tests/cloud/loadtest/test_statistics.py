"""The figures of a load test, from records written by hand."""

import json
from array import array

from hypothesis import given
from hypothesis import strategies as st

from edgewise_cloud.loadtest.record import Outcome, RequestRecord
from edgewise_cloud.loadtest.statistics import Percentiles, summarise


def record(due: float = 0.0, *arrivals: float, **fields: object) -> RequestRecord:
    defaults: dict[str, object] = {
        "number": 0,
        "stream": 0,
        "prompt_tokens": 10,
        "max_tokens": 4,
        "due": due,
        "sent": due,
        "arrivals": array("d", arrivals),
    }
    return RequestRecord(**defaults | fields)


def test_percentiles_lie_between_the_nearest_values() -> None:
    """By linear interpolation; None of an empty list."""
    assert Percentiles.of([float(n) for n in range(101)]) == Percentiles(50, 90, 99, 100)
    assert Percentiles.of([2.0, 1.0]) == Percentiles(1.5, 1.9, 1.99, 2)
    assert Percentiles.of([]) == Percentiles(None, None, None, None)


def test_a_summary_has_the_figures_computed_by_hand() -> None:
    """Two responses, one of them unfinished, in a window of ten seconds."""
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


def test_errors_are_counted_by_code_and_invalid_responses_separately() -> None:
    """Time to refusal is measured; tokens of an invalid response do not count."""
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


def test_time_to_first_token_counts_from_when_the_request_was_due() -> None:
    """A delay of the client is included."""
    summary = summarise([record(1, 5, sent=4, outcome=Outcome.COMPLETED, ended=6)], 0, 10)
    assert summary.time_to_first_token.max == 4
    assert summary.total.max == 5


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
def test_each_request_is_counted_once(records: list[RequestRecord]) -> None:
    """The counts add up, and no more tokens are counted than arrived."""
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
