"""The policy of updates in the background: how often, and on which conditions. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgewise.errors import ConfigurationError
from edgewise.options import known_options, require_function, require_type
from edgewise_edge.checks import Range, check_fields, shown

_BYTES = Range(0, 2**63 - 1, whole=True, unit="bytes")
_HOUR = Range(0, 24, unit="hours")
POLICY_RANGES: Mapping[str, Range] = {
    "every": Range(60, 10**8, unit="seconds"),
    "jitter": Range(0, 1),
    "min_battery": Range(0, 1),
    "min_free_disk": _BYTES,
    "min_memory": _BYTES,
}


@known_options
@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatePolicy:
    """How often a router looks for updates of its model, and on which conditions.

    What this device does not tell is no constraint. Raises ConfigurationError for invalid values.

    - `every` (seconds, 60 or more; default 86400): from one check to the next.
    - `jitter` (0 to 1; default 0.5): up to this share of `every` is added, so that not all devices
      come at once; also before the first check.
    - `only_charging` (default False): not on battery.
    - `min_battery` (0 to 1; default 0.3): not below this charge, unless charging.
    - `only_unmetered` (default True): not on a line that is paid for by volume, as `metered` says.
    - `metered` (function; default None): returns True, False, or None for unknown.
    - `only_idle` (default True): not while this router generates.
    - `min_free_disk` (bytes; default 256 MiB): to be free besides.
    - `min_memory` (bytes; default 64 MiB): to be available to this process, as for `Limits`.
    - `hours` (start, end; default None: always): local hours of the day from 0 to 24, such as (1, 5)
      or (22.5, 6).
    """

    every: float = 86400.0
    jitter: float = 0.5
    only_charging: bool = False
    min_battery: float = 0.3
    only_unmetered: bool = True
    metered: Callable[[], bool | None] | None = None
    only_idle: bool = True
    min_free_disk: int = 256 * 2**20
    min_memory: int = 64 * 2**20
    hours: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check."""
        check_fields(self, POLICY_RANGES, ConfigurationError)
        for name in ("only_charging", "only_unmetered", "only_idle"):
            require_type(name, getattr(self, name), bool, "True or False")
        if self.metered is not None:
            require_function("metered", self.metered, "a function that returns True, False or None")
        if self.hours is not None:
            object.__setattr__(self, "hours", _hours(self.hours))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What a policy asks about, now. None is unknown, and never a constraint."""

    charging: bool | None = None
    battery: float | None = None  # charge from 0 to 1
    metered: bool | None = None
    idle: bool | None = None
    free_disk: int | None = None  # bytes, where the store is
    available_memory: int | None = None  # bytes
    hour: float | None = None  # local, 0 to 24


def unmet(policy: UpdatePolicy, now: Conditions) -> tuple[str, ...]:
    """The conditions that are not met, each as a phrase; none: an update may begin."""
    reasons = {
        "the device is not charging": policy.only_charging and now.charging is False,
        f"the battery is below {policy.min_battery:.0%}": not now.charging
        and _below(now.battery, policy.min_battery),
        "the connection is metered": policy.only_unmetered and now.metered is True,
        "the router is generating": policy.only_idle and now.idle is False,
        f"less than {_megabytes(policy.min_free_disk)} of disk are free": _below(
            now.free_disk, policy.min_free_disk
        ),
        f"less than {_megabytes(policy.min_memory)} of memory are available": _below(
            now.available_memory, policy.min_memory
        ),
        _outside(policy.hours): policy.hours is not None
        and now.hour is not None
        and not _within(policy.hours, now.hour),
    }
    return tuple(reason for reason, applies in reasons.items() if applies)


def _below(value: float | None, least: float) -> bool:
    return value is not None and value < least


def _within(hours: tuple[float, float], hour: float) -> bool:
    """Also past midnight; equal hours are the whole day."""
    start, end = hours
    return start <= hour < end if start < end else hour >= start or hour < end


def _outside(hours: tuple[float, float] | None) -> str:
    start, end = hours or (0, 24)
    return f"it is not between {_clock(start)} and {_clock(end)}"


def _clock(hour: float) -> str:
    minutes = round(hour * 60)
    return f"{minutes // 60}:{minutes % 60:02}"


def _megabytes(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


def _hours(value: object) -> tuple[float, float]:
    if isinstance(value, list | tuple) and len(value) == 2:
        start, end = (_HOUR.check("hours", hour, ConfigurationError) for hour in value)
        return start, end
    raise ConfigurationError(f"hours is {shown(value)}; it must be two hours, such as (1, 5)")
