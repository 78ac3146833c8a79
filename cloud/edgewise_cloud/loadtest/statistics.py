"""Figures computed from records. Pure: no clock, no network."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.loadtest.record import Outcome, RequestRecord


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Percentiles of times, in seconds; None if there are none."""

    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, values: Sequence[float] | NDArray[np.float64]) -> "Percentiles":
        """Compute them, with linear interpolation between the two nearest values."""
        if not len(values):
            return cls(None, None, None, None)
        p50, p90, p99, maximum = np.percentile(values, [50, 90, 99, 100]).tolist()
        return cls(p50, p90, p99, maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures of a time window. Times are in seconds.

    Each request counts as exactly one of completed, cancelled, unfinished, wrong or in `errors`. A
    token counts if it arrived within the window, however its request ended, unless that was wrong.
    """

    seconds: float
    requests: int  # sent
    completed: int
    cancelled: int  # by this client, as planned
    unfinished: int  # still running when the window ended
    wrong: int  # its response broke the contract
    errors: dict[str, int]  # by status code
    prompt_tokens: int  # of requests whose first token arrived in the window
    generated_tokens: int
    tokens_per_second: float  # generated
    requests_per_second: float  # completed
    time_to_first_token: Percentiles  # from when the request was due
    gap: Percentiles  # between tokens of the same request; 0 within a message
    worst_gap_over_median: float | None
    queued: Percentiles  # as reported by the service; completed requests
    total: Percentiles  # from when the request was due to its end; completed requests
    time_to_refusal: Percentiles  # from when the request was sent; RESOURCE_EXHAUSTED

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def summarise(records: Iterable[RequestRecord], start: float, end: float) -> Summary:
    """Summarise the window from `start` to `end`, times on the records' clock.

    Requests that were due after `end` are left out.
    """
    records = [record for record in records if record.due <= end]
    outcomes = Counter(record.outcome for record in records)
    first, gaps, prompt_tokens, generated = [], [np.empty(0)], 0, 0
    for record in records:
        if record.outcome is Outcome.WRONG:
            continue
        arrivals = np.array(record.arrivals)
        inside = (arrivals >= start) & (arrivals <= end)
        generated += int(inside.sum())
        if len(inside) and inside[0]:
            first.append(float(arrivals[0]) - record.due)
            prompt_tokens += record.prompt_tokens
        gaps.append(np.diff(arrivals)[inside[1:]])
    gap = np.concatenate(gaps)
    median = float(np.median(gap)) if len(gap) else 0.0
    completed = [record for record in records if record.outcome is Outcome.COMPLETED]
    return Summary(
        seconds=end - start,
        requests=len(records),
        completed=len(completed),
        cancelled=outcomes[Outcome.CANCELLED],
        unfinished=outcomes[Outcome.UNFINISHED],
        wrong=outcomes[Outcome.WRONG],
        errors=dict(sorted(Counter(record.code for record in records if record.code).items())),
        prompt_tokens=prompt_tokens,
        generated_tokens=generated,
        tokens_per_second=_rate(generated, end - start),
        requests_per_second=_rate(len(completed), end - start),
        time_to_first_token=Percentiles.of(first),
        gap=Percentiles.of(gap),
        worst_gap_over_median=float(gap.max()) / median if median else None,
        queued=Percentiles.of([record.queued for record in completed if record.queued is not None]),
        total=Percentiles.of([record.ended - record.due for record in completed if record.ended]),
        time_to_refusal=Percentiles.of(
            [
                record.ended - record.sent
                for record in records
                if record.code == "RESOURCE_EXHAUSTED" and record.ended
            ]
        ),
    )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0
