"""The state of this device, read in one place and cached for a second."""

import threading
import time
from collections.abc import Callable
from typing import Protocol

from edgewise.device.power import read_low_power_mode, read_power, read_temperature
from edgewise.policy.types import DeviceState
from edgewise_edge.memory import available_memory, memory_pressure

MAX_AGE = 1.0  # seconds


class DeviceProbe(Protocol):
    """Returns the device's state: the real one, or one made up by a test or demo."""

    def __call__(self) -> DeviceState:
        """The current state."""


def read_device_state() -> DeviceState:
    """Read every sensor; None for each that cannot be read."""
    power = read_power()
    return DeviceState(
        available_memory=available_memory(),
        memory_pressure=memory_pressure(),
        battery=power.battery,
        charging=power.charging,
        temperature=read_temperature(),
        low_power_mode=read_low_power_mode(),
    )


class CachedProbe:
    """Calls `probe` again once its state is older than `max_age` seconds. Thread-safe."""

    def __init__(
        self,
        probe: DeviceProbe = read_device_state,
        clock: Callable[[], float] = time.monotonic,
        max_age: float = MAX_AGE,
    ) -> None:
        self._probe, self._clock, self._max_age = probe, clock, max_age
        self._lock = threading.Lock()
        self._state: DeviceState | None = None
        self._read_at = 0.0

    def __call__(self) -> DeviceState:
        """The state now, or at most `max_age` seconds ago."""
        with self._lock:
            now = self._clock()
            if self._state is None or now - self._read_at > self._max_age:
                self._state, self._read_at = self._probe(), now
            return self._state
