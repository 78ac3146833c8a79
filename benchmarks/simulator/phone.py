"""A phone that runs the model: its speed, its state, and what it makes of a request."""

import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgewise.policy.types import DeviceState

from .clock import Clock
from .energy import BATTERY, JOULES_READ, JOULES_WRITTEN, Radio
from .world import Asked, Memory, Wait, World

READS = 10  # times as fast as it writes; 20 on a PC with wide vectors (benchmarks/README.md)
LONG = 1500  # tokens there that make a step take twice as long (benchmarks/README.md: 1.6 at 896)
CHUNK = 64  # tokens read in a step
NOISE = 0.15  # of a step's time: the sigma of a log-normal factor
SCARCE = 5  # times as slow while memory is scarce
LOAD = 1.0  # seconds to load the model
MODEL = 250 * 2**20  # bytes
CRASH = 0.3  # seconds until the system has ended it
THROTTLED = ((0.15, 0.4), (0.3, 0.6))  # below a charge, which share of its speed is left
LAG = 10.0  # seconds over which the system averages its memory pressure
FREE = {Memory.PLENTY: 1500 * 2**20, Memory.SCARCE: 400 * 2**20, Memory.NONE: 80 * 2**20}  # bytes
STALLED = {Memory.PLENTY: 0.0, Memory.SCARCE: 0.7, Memory.NONE: 0.9}  # share of time


@dataclass(slots=True)
class Phone:
    """The phone in its world."""

    world: World
    clock: Clock
    radio: Radio = field(default_factory=Radio)
    running: int = 0  # texts that it writes, in turns
    loaded: bool = True
    computed: float = 0.0  # joules
    _pressure: float = 0.0
    _read_at: float = 0.0

    @property
    def charge(self) -> float:
        """From 0 to 1."""
        used = (self.computed + self.radio.joules) / BATTERY
        return max(0.01, self.world.battery.at(self.clock()) - used)

    @property
    def charging(self) -> bool:
        """Whether it is plugged in."""
        return self.world.charging.at(self.clock())

    def state(self) -> DeviceState:
        """What the router reads: pressure as a moving average, as Linux gives it."""
        now = self.clock()
        memory = self.world.memory.at(now)
        kept = math.exp((self._read_at - now) / LAG)
        self._pressure = kept * self._pressure + (1 - kept) * STALLED[memory]
        self._read_at = now
        return DeviceState(
            available_memory=FREE[memory],
            memory_pressure=self._pressure,
            battery=self.charge,
            charging=self.charging,
        )

    @property
    def speed(self) -> float:
        """The share of its full speed that a text gets now."""
        throttle = next((s for charge, s in THROTTLED if self.charge < charge), 1.0)
        scarcity = SCARCE if self.world.memory.at(self.clock()) is Memory.SCARCE else 1
        return (1.0 if self.charging else throttle) / scarcity / max(1, self.running)

    @contextmanager
    def writing(self, asked: Asked, position: int) -> Iterator["PhoneRun"]:
        """Work on a text that has `position` tokens."""
        self.running += 1
        try:
            yield PhoneRun(self, asked, position)
        finally:
            self.running -= 1


class PhoneRun:
    """One text being written by the phone."""

    def __init__(self, phone: Phone, asked: Asked, position: int) -> None:
        self._phone, self._position = phone, position
        self._uncached = position
        self._chance = random.Random(f"{asked.name}/phone/{position}")

    def go_on(self) -> Wait:
        """The next step, from now."""
        phone = self._phone
        if phone.world.memory.at(phone.clock()) is Memory.NONE:
            phone.loaded = False
            return Wait(CRASH, failure="ended by the system")
        if not phone.loaded:
            phone.loaded = True
            return Wait(LOAD / phone.speed, loading=True)
        read = min(CHUNK, self._uncached)
        self._uncached -= read
        if read:
            phone.computed += read * JOULES_READ
            return Wait(self._seconds(read / READS))
        self._position += 1
        phone.computed += JOULES_WRITTEN
        return Wait(self._seconds(1), token=True)

    def _seconds(self, steps: float) -> float:
        noise = self._chance.lognormvariate(0, NOISE)
        longer = 1 + self._position / LONG
        return steps * noise * longer / self._phone.world.writes / self._phone.speed
