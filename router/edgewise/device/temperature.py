"""Reads the temperature: the processor's sensors first, each by its own limits."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from edgewise.policy.types import MAX_TEMPERATURE
from edgewise_edge.checks import Range

# Sensors that are not connected read 127, 127.9, 128, 255 or -128 °C; no silicon works above 125.
POSSIBLE_TEMPERATURE = Range(-50, 125)
# Limits that were never set read 0, 127, 128 or 65,262 °C.
_POSSIBLE_LIMIT = Range(50, 125)
# Names of drivers and thermal zones: coretemp, k10temp, cpu_thermal, soc-thermal, tsens_tz_sensor0.
_PROCESSOR = re.compile(r"cpu|core|soc|k8temp|k10temp|zenpower|x86_pkg|tsens", re.IGNORECASE)

Sensors = Mapping[str, Iterable[Any]]  # as psutil.sensors_temperatures() returns them


@dataclass(frozen=True, slots=True)
class Temperature:
    """A sensor's reading and the temperature beyond which it is too hot, in degrees Celsius."""

    degrees: float
    limit: float = MAX_TEMPERATURE


def read_temperature(read: Callable[[], Sensors] | None = None) -> Temperature | None:
    """The sensor that is closest to its limit; None without sensors (macOS, Windows).

    Those of the processor, and others only if it has none: a board's sensors may be connected to
    nothing.
    """
    sensors = (read or _psutil_sensors)()
    processor = {name: found for name, found in sensors.items() if _PROCESSOR.search(name)}
    for group in (processor, sensors):
        known = (t for entries in group.values() for t in _temperatures(entries))
        if hottest := max(known, key=lambda t: t.degrees - t.limit, default=None):
            return hottest
    return None


def _psutil_sensors() -> Sensors:
    import psutil  # takes 6 ms, too much for an import of this package

    read = getattr(psutil, "sensors_temperatures", None)
    return read() if read else {}


def _temperatures(entries: Iterable[Any]) -> Iterator[Temperature]:
    for entry in entries:
        if entry.current in POSSIBLE_TEMPERATURE:
            yield Temperature(float(entry.current), _limit(entry.high, entry.critical))


def _limit(high: Any, critical: Any) -> float:
    """90 °C, more if the sensor's high value is above that, and never more than its critical one."""
    at_most = float(critical) if critical in _POSSIBLE_LIMIT else POSSIBLE_TEMPERATURE.high
    # Some chips state one value as both: then it is the critical one, at which they slow down.
    at_least = float(high) if high in _POSSIBLE_LIMIT and high < at_most else MAX_TEMPERATURE
    return min(max(MAX_TEMPERATURE, at_least), at_most)
