"""The limits beyond which the device does not answer."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgewise.errors import ConfigurationError
from edgewise.options import known_options
from edgewise_edge.checks import Range, check_fields

LIMIT_RANGES: Mapping[str, Range] = {
    "min_battery": Range(0, 1),
    "memory_reserve": Range(0, 2**63 - 1, whole=True, unit="bytes"),
    "max_memory_pressure": Range(0, 1),
    "max_temperature": Range(0, 1000, unit="degrees Celsius"),
    "max_queue": Range(1, 10**6, whole=True, unit="generations"),
    "queue_timeout": Range(0, 10**6, unit="seconds"),
}


@known_options
@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits beyond which the device gets a veto. Raises ConfigurationError for invalid values.

    - `min_battery` (0 to 1; default 0.2): the charge below which the cloud is asked instead. Ignored
      while charging. A soft veto: where the cloud may not answer, the device does.
    - `memory_reserve` (bytes, 0 or more; default 64 MiB): memory to keep free, besides what the model
      still needs.
    - `max_memory_pressure` (0 to 1; default 0.4): the share of time that the system may stall on
      memory. A soft veto.
    - `max_temperature` (degrees Celsius, 0 to 1000; default None: the sensor's own limit, which is 90
      if it states none): of the processor, or of the hottest sensor where it has none. A soft veto.
    - `max_queue` (1 or more; default 8): generations that run on the device at once, in turns.
    - `queue_timeout` (seconds, 0 or more; default 1): how long a request for which no other source
      may answer waits for one of them to end. 0: it is refused at once.
    """

    min_battery: float = 0.2
    memory_reserve: int = 64 * 2**20
    max_memory_pressure: float = 0.4
    max_temperature: float | None = None
    max_queue: int = 8
    queue_timeout: float = 1.0

    def __post_init__(self) -> None:
        """Check."""
        ranges = dict(LIMIT_RANGES)
        if self.max_temperature is None:
            del ranges["max_temperature"]
        check_fields(self, ranges, ConfigurationError)
