"""A cloud behind a mobile network, how long its client waits, and what the router knows of it."""

import math
import random

from edgewise import CloudTimeouts, LatencyLog, Measurement, Veto
from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker
from edgewise.cloud.health_probe import IDLE_AFTER, MIN_INTERVAL
from edgewise.policy.types import CloudState

from .device import TOKEN_BYTES, Radio
from .world import Clock, Health, Link, Process, Request, Step, World

PREFILL = 0.6e-3  # seconds for a token of the prompt (docs/benchmarks.md: 16 x 64 in 610 ms)
NOISE = 0.2  # of a wait: the sigma of a log-normal factor
TIMEOUTS = CloudTimeouts()
ADDRESS = "cloud:1"
LOAD_AGE = 5.0  # seconds for which the cloud's last load report is used
WINDOW = 1024  # tokens


class Cloud:
    """The cloud as one client sees it."""

    def __init__(self, world: World, clock: Clock, radio: Radio) -> None:
        self.world, self.clock, self.radio = world, clock, radio
        self.connected = True  # after a failure, a new connection has to be made first

    @property
    def healthy(self) -> bool:
        """Whether a health probe would succeed now."""
        now = self.clock()
        return self.world.health.at(now) is Health.UP and self.world.link.at(now) is not None

    def reaches(self, time: float) -> float:
        """When what is sent at `time` arrives: at once, or when there is a network again."""
        if self.world.link.at(time) is not None:
            return time
        return self.world.link.next_change(time) or math.inf


class CloudRun:
    """One generation in the cloud, from `position` on."""

    def __init__(self, cloud: Cloud, request: Request, position: int) -> None:
        self._cloud, self._position = cloud, position
        self._started = False
        self.queued = 0.0  # seconds, as the service reports with its first token
        self._chance = random.Random(f"{request.name}/service/{position}")

    def step(self) -> Step:
        """The next token, from now, or what the client gets instead."""
        cloud = self._cloud
        now, noise = cloud.clock(), self._chance.lognormvariate(0, NOISE)
        step = self._arrival(now, noise)
        if cloud.world.link.at(now):
            cloud.radio.used(now, now + step.seconds)
        cloud.connected = step.failure is None
        self._started = True
        return step

    def _arrival(self, now: float, noise: float) -> Step:
        cloud, world = self._cloud, self._cloud.world
        link, health = world.link.at(now) or Link(), world.health.at(now)
        if not self._started and health is Health.REFUSES:
            return Step(link.round_trip, failure="refused")
        connecting = not (self._started or cloud.connected)
        if connecting and (health is Health.HANGS or cloud.reaches(now) - now > TIMEOUTS.connect):
            return Step(TIMEOUTS.connect, failure="cannot be reached")
        gap = noise * world.load.at(now).gap
        ready = now + (gap if self._started else self._first_token(now, link, noise))
        health = world.health.at(ready)
        if health is Health.REFUSES:
            return Step(ready - now, failure="cut")
        timeout = TIMEOUTS.between_tokens if self._started else TIMEOUTS.first_token
        arrives = cloud.reaches(ready)
        if health is Health.HANGS or arrives - now > timeout:
            return Step(timeout, failure="stalled")
        return Step(arrives - now, token=True)

    def _first_token(self, now: float, link: Link, noise: float) -> float:
        load = self._cloud.world.load.at(now)
        self.queued = load.queued * noise
        self._cloud.radio.sent(self._position)
        sending = self._position * TOKEN_BYTES * 8 / link.bandwidth
        trips = link.round_trip * (1 if self._cloud.connected else 3)  # TCP and TLS come first
        return self.queued + noise * (trips + sending + self._position * PREFILL + load.gap)


class KnownCloud:
    """Its circuit breaker, last load report and predicted times, like edgewise.cloud.source's."""

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
