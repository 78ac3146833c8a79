"""The state of this device, read in one place and cached for a second."""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import copy_context
from dataclasses import fields, replace
from typing import Any, Protocol

from edgewise.device.power import Power, read_low_power_mode, read_power
from edgewise.device.temperature import POSSIBLE_TEMPERATURE, read_temperature
from edgewise.policy.types import MAX_TEMPERATURE, DeviceState
from edgewise_edge.checks import Range
from edgewise_edge.memory import available_memory, memory_pressure
from edgewise_edge.readings import plausible, reading

MAX_AGE = 1.0  # seconds
TIMEOUT = 2.0  # seconds; reading all sensors takes a few milliseconds
_SHARE = Range(0, 1)
_POSSIBLE: Mapping[str, Range] = {
    "available_memory": Range(0, 2**63 - 1, whole=True),
    "memory_pressure": _SHARE,
    "battery": _SHARE,
    "temperature": POSSIBLE_TEMPERATURE,
    "temperature_limit": Range(0, 1000),
}


class DeviceProbe(Protocol):
    """Returns the device's state: the real one, or one made up by a test or demo."""

    def __call__(self) -> DeviceState:
        """The current state."""


def read_device_state() -> DeviceState:
    """Read every sensor; None for each that cannot be read. Never raises."""
    power = reading("the battery", read_power) or Power()
    heat = reading("the temperature", read_temperature)
    return DeviceState(
        available_memory=available_memory(),
        memory_pressure=memory_pressure(),
        battery=power.battery,
        charging=power.charging,
        temperature=heat.degrees if heat else None,
        temperature_limit=heat.limit if heat else MAX_TEMPERATURE,
        low_power_mode=reading("the low-power mode", read_low_power_mode),
    )


class CachedProbe:
    """Calls `probe` again once its state is older than `max_age` seconds. Thread-safe.

    A probe that raises gives an unknown state, and so does one that takes longer than `timeout`
    seconds, as when the driver behind a file hangs; it is not started again until it has returned.
    A value that cannot be true (a battery of 85, NaN) is unknown. None of these fails a request.
    """

    def __init__(
        self,
        probe: DeviceProbe = read_device_state,
        clock: Callable[[], float] = time.monotonic,
        max_age: float = MAX_AGE,
        timeout: float = TIMEOUT,
    ) -> None:
        self._probe, self._clock, self._max_age = probe, clock, max_age
        self._timeout = timeout
        self._lock = threading.Lock()
        self._state: DeviceState | None = None
        self._read_at = 0.0
        self._late: Future[DeviceState] | None = None  # of a call that has not returned in time

    def __call__(self) -> DeviceState:
        """The state now, or at most `max_age` seconds ago."""
        with self._lock:
            now = self._clock()
            if self._state is None or now - self._read_at > self._max_age:
                self._state, self._read_at = self._read(), now
            return self._state

    def _read(self) -> DeviceState:
        return reading("the state of the device", self._in_time) or DeviceState()

    def _in_time(self) -> DeviceState | None:
        if self._late and not self._late.done():
            return None
        result, self._late = self._late or _started(self._probe), None
        try:
            return _possible(result.result(self._timeout))
        except TimeoutError as error:
            if result.done():
                raise  # it is the probe's own
            self._late = result
            raise TimeoutError(f"it takes more than {self._timeout:g} s") from error


def _started(probe: DeviceProbe) -> "Future[DeviceState]":
    """Call `probe` in a thread that does not keep the process from ending."""
    result, context = Future[DeviceState](), copy_context()

    def run() -> None:
        try:
            result.set_result(context.run(probe))
        except BaseException as error:  # noqa: BLE001  # raised again by whoever waits
            result.set_exception(error)

    try:
        threading.Thread(target=run, name="edgewise-device-state", daemon=True).start()
    except RuntimeError:  # at a limit of threads, or while the process ends
        run()
    return result


def _possible(state: DeviceState) -> DeviceState:
    """A copy in which each value that cannot be true is the default, which is unknown."""
    changes: dict[str, Any] = {}
    for field in fields(DeviceState):
        value, default = getattr(state, field.name), field.default
        if value != default and not _is_possible(field.name, value):
            changes[field.name] = default
    return replace(state, **changes)


def _is_possible(name: str, value: object) -> bool:
    if allowed := _POSSIBLE.get(name):
        return plausible(f"the device's {name}", value, allowed) is not None
    return isinstance(value, bool)
