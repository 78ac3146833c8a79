"""How long an answer will take, learned from how long others took."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from edgewise.latency.measurement import Measurement
from edgewise.latency.regression import Row, fit, product, weighted_median
from edgewise.policy.types import PredictedTime

# What an answer costs in tokens read and written changes with the model and the machine, and is
# learned from many; how fast the machine is just now, from the last few. Each older generation
# counts that much less.
_FADING = 0.97  # half after 23
_PACE_FADING = 0.87  # half after 5
_PACED = 16  # generations that the pace is learned from
_LATE = 0.9  # the quantile a cloud's first token is predicted by: queues and networks have tails
HOUR = 3600.0  # after which the cloud's state is another one
_SHOWN = 0.8  # an error that small, beside the one without it, shows that reading takes time
_ENOUGH = 8  # measurements to tell such a thing by
_SHORTEST = 1e-6  # seconds: what a clock can tell


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """What reading and writing cost on a device, and its pace just now. None: not known."""

    reading: Row | None = None  # seconds for each of `_reading`
    writing: Row | None = None  # seconds for each of `_writing`
    pace: float = 1.0  # times what it usually takes

    @classmethod
    def learned(cls, measured: Sequence[Measurement]) -> Self:
        """From measurements, oldest first."""
        if not measured:
            return cls()
        weights = [_FADING**age for age in range(len(measured) - 1, -1, -1)]
        reading = fit(
            [_reading(m.position, m.uncached) for m in measured],
            [max(_SHORTEST, m.first_token) for m in measured],
            weights,
        )
        written = [(m, weight) for m, weight in zip(measured, weights, strict=True) if m.tokens > 1]
        writing = written and fit(
            [_writing(m.position, m.tokens) for m, _ in written],
            [max(_SHORTEST, m.decode_time) for m, _ in written],
            [weight for _, weight in written],
        )
        return cls(reading, writing or None).paced(measured)

    def paced(self, measured: Sequence[Measurement]) -> Self:
        """With the pace of the last measurements, the costs as they were: a cheap way to go on."""
        latest = list(measured)[-_PACED:]
        paces = [self.pace * m.total / self._total(m) for m in latest]
        weights = [_PACE_FADING**age for age in range(len(latest) - 1, -1, -1)]
        return replace(self, pace=max(_SHORTEST, weighted_median(paces, weights)))

    def predict(
        self,
        *,
        position: int,
        uncached: int,
        max_tokens: int,
        load: float = 0.0,
        queue_length: int = 0,
    ) -> PredictedTime:
        """For `max_tokens` more after `position` tokens, `uncached` of which have to be read.

        `load` is what loading the model takes first, in seconds. With `queue_length` other texts
        the device takes turns.
        """
        if self.reading is None:
            return PredictedTime()
        pace = self.pace * (1 + queue_length)
        first = load + pace * product(_reading(position, uncached), self.reading)
        if self.writing is None:
            return PredictedTime(first, first if max_tokens == 1 else None)
        writing = pace * product(_writing(position, max(2, max_tokens)), self.writing)
        total = first + writing if max_tokens > 1 else first
        return PredictedTime(first, total, writing / max(1, max_tokens - 1))

    def _total(self, measured: Measurement) -> float:
        """What would have been expected of it."""
        predicted = self.predict(
            position=measured.position, uncached=measured.uncached, max_tokens=measured.tokens
        )
        return predicted.total or _SHORTEST


@dataclass(frozen=True, slots=True)
class CloudTimes:
    """When a cloud's first token comes at the latest, mostly, and the others' median pace.

    It depends on the network and on others; on the prompt's length where that shows.
    """

    first_token: float | None = None  # seconds, without those in the queue
    per_token: float = 0.0  # seconds more for each token there
    queued: float = 0.0
    gap: float | None = None

    @classmethod
    def learned(cls, measured: Sequence[Measurement]) -> Self:
        """From measurements; those older by an hour than the newest tell nothing any more."""
        newest = max((m.at for m in measured), default=0.0)
        recent = [m for m in measured if m.at >= newest - HOUR]
        if not recent:
            return cls()
        per_token = _per_token(recent)
        gaps = [(m.decode_time / (m.tokens - 1), m.tokens - 1.0) for m in recent if m.tokens > 1]
        return cls(
            first_token=_late([_working(m) - per_token * m.position for m in recent]),
            per_token=per_token,
            queued=_late([m.queued for m in recent]),
            gap=weighted_median(*zip(*gaps, strict=True)) if gaps else None,
        )

    def predict(
        self, *, position: int, max_tokens: int, expected_wait: float | None = None
    ) -> PredictedTime:
        """For `max_tokens` more after `position` tokens.

        `expected_wait` is for how many seconds the cloud says a request would be queued now.
        """
        if self.first_token is None:
            return PredictedTime()
        wait = self.queued
        if expected_wait is not None and 0 <= expected_wait < math.inf:
            wait = expected_wait
        first = max(0.0, self.first_token + self.per_token * position) + wait
        if self.gap is None:
            return PredictedTime(first, first if max_tokens == 1 else None)
        return PredictedTime(first, first + self.gap * (max_tokens - 1), self.gap)


def _reading(position: int, uncached: int) -> Row:
    """What reading costs for: a step, tokens, the attention of each to those before it, and what
    was read before, which is laid out anew.

    In units that share one measurement out sensibly: attention matters late.
    """
    return (
        1.0,
        uncached / 64,
        uncached * (position - uncached / 2) / 65536,
        (position - uncached) / 256,
    )


def _writing(position: int, tokens: int) -> Row:
    """What writing costs for: its beginning, each token after the first, and their attention.

    Of one measurement, as in `_reading`, the beginning is given the smaller share.
    """
    gaps = tokens - 1
    return 0.25, float(gaps), gaps * (position + tokens / 2) / 1024


def _working(measured: Measurement) -> float:
    """Seconds to the first token without those in the queue."""
    return max(_SHORTEST, measured.first_token - measured.queued)


def _per_token(measured: Sequence[Measurement]) -> float:
    """Seconds that a first token comes later for each token there; 0 unless that shows."""
    if len(measured) < _ENOUGH:
        return 0.0
    firsts, even = [_working(m) for m in measured], [1.0] * len(measured)
    rows = [(1.0, m.position / 64) for m in measured]
    base, slope = fit(rows, firsts, even)
    middle = weighted_median(firsts, even)
    with_it = sum(
        abs(first - base - slope * row[1]) for first, row in zip(firsts, rows, strict=True)
    )
    shows = with_it < _SHOWN * sum(abs(first - middle) for first in firsts)
    return slope / 64 if shows else 0.0


def _late(values: Sequence[float]) -> float:
    last = len(values) - 1
    return sorted(values)[math.ceil(_LATE * last)]
