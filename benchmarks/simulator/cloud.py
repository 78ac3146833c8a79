"""A cloud behind a mobile network, and how long its client waits."""

import math
import random

from edgewise import CloudTimeouts

from .device import TOKEN_BYTES, Radio
from .world import Clock, Health, Link, Request, Step, World

PREFILL = 0.6e-3  # seconds for a token of the prompt (benchmarks/README.md: 16 x 64 in 610 ms)
NOISE = 0.2  # of a wait: the sigma of a log-normal factor
TIMEOUTS = CloudTimeouts()


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
