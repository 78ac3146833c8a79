"""What the router knows of the cloud, as edgewise.cloud.source keeps it, in virtual time."""

import random

from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker
from edgewise.cloud.health_probe import SHORTEST, UNWANTED
from edgewise.latency.log import LatencyLog
from edgewise.policy.types import CloudState, Veto

from .clock import Clock, Process
from .pace import Pace
from .service import TIMEOUTS, Service
from .world import Link

ADDRESS = "cloud:1"
LOAD_AGE = 5.0  # seconds for which what the cloud said of its load is believed
WINDOW = 1024  # tokens


class KnownCloud:
    """Its circuit breaker, its load as last heard, and its predicted times."""

    def __init__(self, service: Service, clock: Clock, latency: LatencyLog) -> None:
        self._service, self._clock, self._latency = service, clock, latency
        self._breaker = CircuitBreaker(rest=2 * TIMEOUTS.probe_interval, clock=clock)
        self._wait: float | None = None
        self._heard_at = -LOAD_AGE
        self._looking, self._wanted_at = False, 0.0
        self._chance = random.Random("looks")

    def state(self, position: int, max_tokens: int) -> CloudState:
        """What the policy is told."""
        self._wanted_at = self._clock()
        fresh = self._clock() - self._heard_at < LOAD_AGE
        return CloudState(
            address=ADDRESS,
            circuit_open=self._breaker.open,
            context_window=WINDOW,
            predicted=self._latency.predict_in_cloud(
                ADDRESS,
                position=position,
                max_tokens=max_tokens,
                expected_wait=self._wait if fresh else None,
            ),
        )

    def refresh(self) -> None:
        """Ask how long its queue is, beside, unless that is known."""
        fresh = self._clock() - self._heard_at < LOAD_AGE
        if not fresh and self._breaker.state is Circuit.CLOSED:
            self._clock.start(self._asking())

    def enter(self) -> object | None:
        """A pass for a request that may go there."""
        return self._breaker.enter()

    def succeeded(self) -> None:
        """A token has come."""
        self._breaker.succeeded()

    def ended(self, entry: object, pace: Pace, queued: float, failure: Veto | None) -> None:
        """An attempt has."""
        if pace.tokens:
            self._latency.add(ADDRESS, pace.measurement(queued, self._clock()))
        if failure is None:
            self._breaker.withdrawn(entry)
        elif self._breaker.failed() and not self._looking:
            self._looking = True
            self._clock.start(self._looks())

    def _asking(self) -> Process:
        asked = self._clock()
        link = self._service.world.link.at(asked) or Link()
        yield link.round_trip
        if self._service.answers:
            self._wait = self._service.world.crowd.at(asked).wait
            self._heard_at = self._clock()

    def _looks(self) -> Process:
        """Look, ever less often, until it is well or nobody wants it any more."""
        pause = SHORTEST
        while self._clock() - self._wanted_at <= UNWANTED:
            yield pause * self._chance.uniform(0.5, 1)
            if self._service.answers:
                self._breaker.rested()
                break
            self._breaker.failed()
            pause = min(2 * pause, TIMEOUTS.probe_interval)
        self._looking = False
