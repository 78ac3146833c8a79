"""A phone that runs the model: its speed, its state, and the energy that requests cost it.

The energy figures are assumptions, none measured here. Computing takes 4 W: at 8 tokens a second, the
middle of the phones here, 0.5 J a token. Prefill is ten times as fast at the same power. A throttled
phone takes less power for longer. For the cloud the phone pays for its radio: an LTE radio's long tail
costs most (Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE
Networks", MobiSys 2012, have figures of this size). The cloud's own energy is not counted.
"""

import math
import random

from edgewise import DeviceState

from .world import Clock, Memory, Request, Step, World

PREFILL_SPEED = 10  # times that of decode; 20 on a PC with wide vectors (docs/benchmarks.md)
LONG = 1500  # tokens there that double a step's time (docs/benchmarks.md: 1.6 at 896)
CHUNK = 64  # tokens of a prompt in one step
NOISE = 0.15  # of a step's time: the sigma of a log-normal factor
SCARCE_SLOWDOWN = 5
LOAD_TIME = 1.0  # seconds to load the model
MODEL_BYTES = 250 * 2**20
CRASH_TIME = 0.3  # seconds until the system has killed it
THROTTLED = ((0.15, 0.4), (0.3, 0.6))  # below a charge, the share of its speed that is left
PRESSURE_AVERAGE = 10.0  # seconds over which the system averages its memory pressure
AVAILABLE = {Memory.PLENTY: 1500 * 2**20, Memory.SCARCE: 400 * 2**20, Memory.NONE: 80 * 2**20}
STALLED = {Memory.PLENTY: 0.0, Memory.SCARCE: 0.7, Memory.NONE: 0.9}  # share of time

JOULES_DECODE, JOULES_PREFILL = 0.5, 0.05  # for a token
RADIO_WATTS, RADIO_TAIL = 1.1, 11.6  # seconds
JOULES_SENT = 0.44e-6 * 8  # for a byte
TOKEN_BYTES = 2  # of a prompt's token on the wire (a varint)
BATTERY = 54_000  # joules: 15 Wh


class Radio:
    """The phone's radio: answers close to each other share a tail."""

    def __init__(self) -> None:
        self.joules = 0.0
        self._on_until = 0.0

    def used(self, start: float, end: float) -> None:
        """It moved bytes from `start` to `end`; calls come roughly in the order of their ends."""
        off_from = end + RADIO_TAIL
        self.joules += RADIO_WATTS * max(0.0, off_from - max(start, self._on_until))
        self._on_until = max(self._on_until, off_from)

    def sent(self, tokens: int) -> None:
        self.joules += tokens * TOKEN_BYTES * JOULES_SENT


class Device:
    """The phone in its world."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.world, self.clock, self.radio = world, clock, Radio()
        self.running = 0  # generations, which take turns
        self.loaded = True
        self.compute_joules = 0.0
        self._pressure, self._pressure_at = 0.0, 0.0

    @property
    def charge(self) -> float:
        used = (self.compute_joules + self.radio.joules) / BATTERY
        return max(0.01, self.world.battery.at(self.clock()) - used)

    @property
    def charging(self) -> bool:
        return self.world.charging.at(self.clock())

    def state(self) -> DeviceState:
        """What the router reads; the pressure is a moving average, as on Linux."""
        now = self.clock()
        memory = self.world.memory.at(now)
        kept = math.exp((self._pressure_at - now) / PRESSURE_AVERAGE)
        self._pressure = kept * self._pressure + (1 - kept) * STALLED[memory]
        self._pressure_at = now
        return DeviceState(
            available_memory=AVAILABLE[memory],
            memory_pressure=self._pressure,
            battery=self.charge,
            charging=self.charging,
        )

    @property
    def speed(self) -> float:
        """The share of its full speed that a generation gets now."""
        throttle = next((s for charge, s in THROTTLED if self.charge < charge), 1.0)
        scarce = self.world.memory.at(self.clock()) is Memory.SCARCE
        slowdown = SCARCE_SLOWDOWN if scarce else 1
        return (1.0 if self.charging else throttle) / slowdown / max(1, self.running)


class DeviceRun:
    """One generation on the device, from `position` on."""

    def __init__(self, device: Device, request: Request, position: int) -> None:
        self._device, self._position, self._uncached = device, position, position
        self._chance = random.Random(f"{request.name}/phone/{position}")

    def step(self) -> Step:
        """The next step, from now."""
        device = self._device
        if device.world.memory.at(device.clock()) is Memory.NONE:
            device.loaded = False
            return Step(CRASH_TIME, failure="killed by the system")
        if not device.loaded:
            device.loaded = True
            return Step(LOAD_TIME / device.speed, loading=True)
        chunk = min(CHUNK, self._uncached)
        self._uncached -= chunk
        if chunk:
            device.compute_joules += chunk * JOULES_PREFILL
            return Step(self._seconds(chunk / PREFILL_SPEED))
        self._position += 1
        device.compute_joules += JOULES_DECODE
        return Step(self._seconds(1), token=True)

    def _seconds(self, tokens: float) -> float:
        noise = self._chance.lognormvariate(0, NOISE)
        longer = 1 + self._position / LONG
        return tokens * noise * longer / self._device.world.speed / self._device.speed
