"""What the router knows of the cloud, as edgewise.cloud.source keeps it, in virtual time."""

import random

from edgewise import LatencyLog, Measurement, Veto
from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker
from edgewise.cloud.health_probe import IDLE_AFTER, MIN_INTERVAL
from edgewise.policy.types import CloudState

from .cloud import TIMEOUTS, Cloud
from .world import Link, Process

ADDRESS = "cloud:1"
LOAD_AGE = 5.0  # seconds for which the cloud's last load report is used
WINDOW = 1024  # tokens


class KnownCloud:
    """Its circuit breaker, its last load report, and its predicted times."""

    def __init__(self, cloud: Cloud, latency: LatencyLog) -> None:
        self._cloud, self._clock, self._latency = cloud, cloud.clock, latency
        self.breaker = CircuitBreaker(cooldown=2 * TIMEOUTS.probe_interval, clock=cloud.clock)
        self._queue: float | None = None  # seconds
        self._reported_at = -LOAD_AGE
        self._probing, self._wanted_at = False, 0.0
        self._chance = random.Random("looks")

    @property
    def _fresh(self) -> bool:
        return self._clock() - self._reported_at < LOAD_AGE

    def state(self, position: int, max_tokens: int) -> CloudState:
        """What the policy sees."""
        self._wanted_at = self._clock()
        predicted = self._latency.predict_in_cloud(
            ADDRESS,
            position=position,
            max_tokens=max_tokens,
            expected_wait=self._queue if self._fresh else None,
        )
        return CloudState(
            address=ADDRESS,
            circuit_open=self.breaker.open,
            context_window=WINDOW,
            predicted=predicted,
        )

    def refresh(self) -> None:
        """Ask how long its queue is, in the background, unless that is known."""
        if not self._fresh and self.breaker.state is Circuit.CLOSED:
            self._clock.start(self._get_load())

    def ended(self, permit: object, measured: Measurement | None, failure: Veto | None) -> None:
        """Learn from an attempt."""
        if measured:
            self._latency.add(ADDRESS, measured)
        if failure is None:
            self.breaker.release(permit)
        elif self.breaker.failed() and not self._probing:
            self._probing = True
            self._clock.start(self._probe())

    def _get_load(self) -> Process:
        asked = self._clock()
        yield (self._cloud.world.link.at(asked) or Link()).round_trip
        if self._cloud.healthy:
            self._queue = self._cloud.world.load.at(asked).queued
            self._reported_at = self._clock()

    def _probe(self) -> Process:
        """Probe at growing intervals, until it is healthy or nobody has wanted it for a while."""
        pause = MIN_INTERVAL
        while self._clock() - self._wanted_at <= IDLE_AFTER:
            yield pause * self._chance.uniform(0.5, 1)
            if self._cloud.healthy:
                self.breaker.allow_trial()
                break
            self.breaker.failed()
            pause = min(2 * pause, TIMEOUTS.probe_interval)
        self._probing = False
