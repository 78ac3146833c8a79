"""Checks of what comes from outside: the numbers of options, and what is read from the system."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_log = logging.getLogger("edgewise_edge")
_reported: set[tuple[str, str]] = set()  # what could not be read, and why


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers from `low` to `high`, both included; with `above`, `low` is not."""

    low: float
    high: float
    above: bool = False
    whole: bool = False  # whole numbers only
    unit: str = ""  # in the plural

    def __contains__(self, value: object) -> bool:
        """Whether it is such a number. True, False and NaN are not."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        """In words."""
        start = f"above {self.low}" if self.above else f"from {self.low}"
        if self.high == float("inf"):
            return start if self.above else f"{self.low} or more"
        return f"{start} and at most {self.high}" if self.above else f"{start} to {self.high}"

    def check(self, name: str, value: object, error: type[Exception]) -> None:
        """Raise `error` unless `value` is in the range."""
        if value not in self:
            number = "a whole number" if self.whole else "a number"
            kind = f"{number} of {self.unit}" if self.unit else number
            raise error(f"{name} is {value!r}; it must be {kind}, {self}{self._hint(value)}")

    def _hint(self, value: object) -> str:
        """For a percentage where a fraction is expected."""
        if self.high == 1 and not self.whole and value in Range(1, 100, above=True):
            percentage = float(str(value))
            return f". For {percentage:g} % write {percentage / 100:g}"
        return ""


def reading(what: str, read: Callable[[], T | None], possible: Range | None = None) -> T | None:
    """What `read` returns; None, which means unknown, if it raises or the value is not `possible`.

    Drivers, container runtimes and psutil fail in every way, and no request may fail because of
    them: any exception counts. The first of each kind is logged as a warning.
    """
    try:
        value = read()
    except Exception as error:  # noqa: BLE001
        _report(what, type(error).__name__, repr(error))
        return None
    return value if value is None or possible is None else plausible(what, value, possible)


def plausible(what: str, value: T, possible: Range) -> T | None:
    """`value`, or None if it is outside the range and so cannot be true, which is logged once."""
    if value in possible:
        return value
    _report(what, "impossible", f"{value!r} is not {possible}")
    return None


def _report(what: str, kind: str, detail: str) -> None:
    if (what, kind) not in _reported:
        _reported.add((what, kind))
        _log.warning("%s cannot be read and counts as unknown: %s", what, detail)
