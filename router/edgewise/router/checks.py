"""Checks of a router's options that concern no update (update_options.py)."""

from collections.abc import Iterable, Mapping

from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.device.limits import Limits
from edgewise.errors import ConfigurationError
from edgewise.generation.events import Observer
from edgewise.latency.log import LatencyLog
from edgewise.options import require_function, require_type
from edgewise_edge.checks import Range

_RANGES: Mapping[str, Range] = {
    "threads": Range(1, 1024, whole=True),
    "keep_alive": Range(0, 10**6, unit="seconds"),
}
_TYPES: Mapping[str, tuple[type, str]] = {
    "cloud_security": (CloudSecurity, "a CloudSecurity"),
    "cloud_timeouts": (CloudTimeouts, "a CloudTimeouts"),
    "limits": (Limits, "a Limits"),
    "latency": (LatencyLog, "a LatencyLog"),
}
_FUNCTIONS: Mapping[str, str] = {
    "classify": "a function of the prompt (not async)",
    "device": "a function that returns a DeviceState (not async)",
}


def check_options(*, offline: object, **options: object) -> None:
    """Raise ConfigurationError for an option of the wrong type, or out of range."""
    require_type("offline", offline, bool, "True or False")
    for name, value in options.items():
        if value is None:
            continue
        if name in _RANGES:
            _RANGES[name].check(name, value, ConfigurationError)
        elif name in _FUNCTIONS:
            require_function(name, value, _FUNCTIONS[name])
        else:
            require_type(name, value, *_TYPES[name])


def checked_observers(observers: Iterable[Observer]) -> tuple[Observer, ...]:
    """The same, once iterated over. Raises ConfigurationError for what is no function."""
    require_type("observers", observers, Iterable, "a list of functions")
    for observer in (functions := tuple(observers)):
        require_function("an observer", observer, "a function of an event (not async)")
    return functions
