"""A cloud behind a mobile network, and how a client waits for it."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager

from edgewise.cloud.config import CloudTimeouts

from .clock import Clock
from .energy import BYTES_READ, Radio
from .world import Asked, Health, Link, Wait, World

SECONDS_READ = 0.6e-3  # for a token of the prompt (benchmarks/README.md: 16 x 64 in 610 ms)
NOISE = 0.2  # of a wait: the sigma of a log-normal factor
TIMEOUTS = CloudTimeouts()


class Service:
    """The cloud as one client meets it."""

    def __init__(self, world: World, clock: Clock, radio: Radio) -> None:
        self.world, self.clock, self.radio = world, clock, radio
        self.connected = True  # until a failure: then a new connection has to be made first

    @property
    def answers(self) -> bool:
        """Whether a look at it, now, would find it well."""
        now = self.clock()
        return self.world.health.at(now) is Health.UP and self.world.link.at(now) is not None

    @contextmanager
    def writing(self, asked: Asked, position: int) -> Iterator["ServiceRun"]:
        """Have a text go on that has `position` tokens."""
        yield ServiceRun(self, asked, position)


class ServiceRun:
    """One text being written by the cloud."""

    def __init__(self, service: Service, asked: Asked, position: int) -> None:
        self._service, self._position = service, position
        self._begun = False
        self.queued = 0.0  # seconds, as the service says with its first token
        self._chance = random.Random(f"{asked.name}/service/{position}")

    def go_on(self) -> Wait:
        """The next token, from now, or what the client gets instead."""
        service = self._service
        now, noise = service.clock(), self._chance.lognormvariate(0, NOISE)
        wait = self._arrival(now, noise)
        link = service.world.link.at(now)
        if link:
            service.radio.used(now, now + wait.seconds)
        service.connected = wait.failure is None
        self._begun = True
        return wait

    def _arrival(self, now: float, noise: float) -> Wait:
        world = self._service.world
        link, health = world.link.at(now) or Link(), world.health.at(now)
        if not self._begun and health is Health.REFUSES:
            return Wait(link.round_trip, failure="refused")
        connecting = not (self._begun or self._service.connected)
        if connecting and (health is Health.HANGS or _back(world, now) - now > TIMEOUTS.connect):
            return Wait(TIMEOUTS.connect, failure="cannot be reached")
        ready = now + (self._gap(now, noise) if self._begun else self._first(now, link, noise))
        health = world.health.at(ready)
        if health is Health.REFUSES:
            return Wait(ready - now, failure="cut")
        patience = TIMEOUTS.between_tokens if self._begun else TIMEOUTS.first_token
        there = _back(world, ready)
        if health is Health.HANGS or there - now > patience:
            return Wait(patience, failure="silent")
        return Wait(there - now, token=True)

    def _first(self, now: float, link: Link, noise: float) -> float:
        crowd = self._service.world.crowd.at(now)
        self.queued = crowd.wait * noise
        self._service.radio.sent(self._position)
        sending = self._position * BYTES_READ * 8 / link.bandwidth
        trips = link.round_trip * (1 if self._service.connected else 3)  # TCP and TLS come first
        working = trips + sending + self._position * SECONDS_READ + crowd.gap
        return self.queued + noise * working

    def _gap(self, now: float, noise: float) -> float:
        return noise * self._service.world.crowd.at(now).gap


def _back(world: World, time: float) -> float:
    """When what is ready then comes through: at once, or when there is a network again."""
    if world.link.at(time) is not None:
        return time
    return world.link.next_change(time) or math.inf
