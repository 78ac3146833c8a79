"""Predicts how long an answer will take from how long others took."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from edgewise.latency.measurement import Measurement
from edgewise.latency.regression import Row, censored_quantile, dot, fit, weighted_median
from edgewise.policy.types import PredictedTime

# The cost of a token depends on the model and the machine, and is fitted to many generations. The
# current speed of the machine is estimated from the last few. Weights decay with age.
_DECAY = 0.97  # half-life: 23 generations
_RECENT = 16  # generations that the slowdown is estimated from
_RECENT_DECAY = 0.87  # half-life: 5 generations
_QUANTILE = 0.9  # of a cloud's first tokens: queues and networks have long tails
HOUR = 3600.0  # older measurements say nothing about the cloud's current state
_SIGNIFICANT = 0.8  # a slope counts if it reduces the absolute error to this share
_MIN_SAMPLES = 8  # measurements to tell that from
_MIN_SECONDS = 1e-6  # the resolution of a clock


@dataclass(frozen=True, slots=True)
class DeviceTimes:
    """The cost of prefill and decode on a device, and its current slowdown. None: unknown."""

    prefill: Row | None = None  # seconds per unit of each prefill feature
    decode: Row | None = None  # seconds per unit of each decode feature
    slowdown: float = 1.0  # current time / usual time

    @classmethod
    def fitted(cls, measured: Sequence[Measurement]) -> Self:
        """Fitted to measurements, oldest first."""
        complete = [m for m in measured if m.complete]
        if not complete:
            return cls()
        weights = [_DECAY**age for age in range(len(complete) - 1, -1, -1)]
        prefill = fit(
            [_prefill_features(m.position, m.uncached) for m in complete],
            [max(_MIN_SECONDS, m.first_token) for m in complete],
            weights,
        )
        decoded = [(m, weight) for m, weight in zip(complete, weights, strict=True) if m.tokens > 1]
        decode = decoded and fit(
            [_decode_features(m.position, m.tokens) for m, _ in decoded],
            [max(_MIN_SECONDS, m.decode_time) for m, _ in decoded],
            [weight for _, weight in decoded],
        )
        return cls(prefill, decode or None).rescaled(measured)

    def rescaled(self, measured: Sequence[Measurement]) -> Self:
        """The same costs with the slowdown of the latest measurements: cheaper than a new fit.

        A lower bound counts where it is above what was expected: below that it says nothing.
        """
        latest = list(measured)[-_RECENT:]
        ratios = [m.total / self._expected_total(m) for m in latest]
        weighted = [
            (self.slowdown * ratio, _RECENT_DECAY**age)
            for age, (m, ratio) in enumerate(zip(reversed(latest), reversed(ratios), strict=True))
            if m.complete or ratio > 1
        ]
        if not weighted:
            return self
        slowdown = weighted_median(*zip(*weighted, strict=True))
        return replace(self, slowdown=max(_MIN_SECONDS, slowdown))

    def predict(
        self,
        *,
        position: int,
        uncached: int,
        max_tokens: int,
        load: float = 0.0,
        queue_length: int = 0,
    ) -> PredictedTime:
        """Predict `max_tokens` after `position` tokens, of which `uncached` need prefill.

        `load` is the seconds to load the model first. The device takes turns with `queue_length`
        other generations.
        """
        if self.prefill is None:
            return PredictedTime()
        scale = self.slowdown * (1 + queue_length)
        first = load + scale * dot(_prefill_features(position, uncached), self.prefill)
        if self.decode is None:
            return PredictedTime(first, first if max_tokens == 1 else None)
        decode = scale * dot(_decode_features(position, max(2, max_tokens)), self.decode)
        total = first + decode if max_tokens > 1 else first
        return PredictedTime(first, total, decode / max(1, max_tokens - 1))

    def _expected_total(self, measured: Measurement) -> float:
        predicted = self.predict(
            position=measured.position,
            uncached=measured.uncached,
            max_tokens=max(1, measured.tokens),
        )
        return predicted.total or _MIN_SECONDS


@dataclass(frozen=True, slots=True)
class CloudTimes:
    """A high quantile of a cloud's time to first token, and its median gap between tokens.

    They depend on the network and on other clients, and on the prompt's length only if that is
    significant. Attempts that were given up count as lower bounds: those that answered are the fast
    ones.
    """

    first_token: float | None = None  # seconds, without queueing
    per_token: float = 0.0  # seconds added for each token of prompt and answer so far
    queued: float = 0.0
    gap: float | None = None

    @classmethod
    def fitted(cls, measured: Sequence[Measurement]) -> Self:
        """Fitted to those measurements that ended within an hour of the newest."""
        newest = max((m.at for m in measured), default=0.0)
        recent = [m for m in measured if m.at >= newest - HOUR]
        if not recent:
            return cls()
        complete = [m for m in recent if m.complete]
        per_token = _seconds_per_token(complete)
        gaps = [(m.decode_time / (m.tokens - 1), m.tokens - 1.0) for m in recent if m.tokens > 1]
        return cls(
            first_token=censored_quantile(
                [(_unqueued(m) - per_token * m.position, m.complete) for m in recent], _QUANTILE
            ),
            per_token=per_token,
            queued=_high_quantile([m.queued for m in complete]) if complete else 0.0,
            gap=weighted_median(*zip(*gaps, strict=True)) if gaps else None,
        )

    def predict(
        self, *, position: int, max_tokens: int, expected_wait: float | None = None
    ) -> PredictedTime:
        """Predict `max_tokens` after `position` tokens.

        `expected_wait` is the time in seconds that the cloud expects a new request to be queued.
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


def _prefill_features(position: int, uncached: int) -> Row:
    """A step, tokens, the attention of each to those before it, and copying the cached tokens.

    The units divide a single measurement sensibly: attention matters only for long prompts.
    """
    return (
        1.0,
        uncached / 64,
        uncached * (position - uncached / 2) / 65536,
        (position - uncached) / 256,
    )


def _decode_features(position: int, tokens: int) -> Row:
    """The start, each token after the first, and their attention.

    The units give the start the smaller share of a single measurement.
    """
    gaps = tokens - 1
    return 0.25, float(gaps), gaps * (position + tokens / 2) / 1024


def _unqueued(measured: Measurement) -> float:
    """Seconds to the first token without queueing."""
    return max(_MIN_SECONDS, measured.first_token - measured.queued)


def _seconds_per_token(measured: Sequence[Measurement]) -> float:
    """How much later a first token comes for each token of prompt; 0 unless significant."""
    if len(measured) < _MIN_SAMPLES:
        return 0.0
    firsts, even = [_unqueued(m) for m in measured], [1.0] * len(measured)
    rows = [(1.0, m.position / 64) for m in measured]
    base, slope = fit(rows, firsts, even)
    median = weighted_median(firsts, even)
    error = sum(abs(first - base - slope * row[1]) for first, row in zip(firsts, rows, strict=True))
    significant = error < _SIGNIFICANT * sum(abs(first - median) for first in firsts)
    return slope / 64 if significant else 0.0


def _high_quantile(values: Sequence[float]) -> float:
    return censored_quantile([(value, True) for value in values], _QUANTILE)
