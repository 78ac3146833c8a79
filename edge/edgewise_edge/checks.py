"""The values that an option may have, and the message for any other."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from numbers import Integral, Real
from operator import index
from types import UnionType

_SHOWN = 80  # characters of an invalid value
_SHA256 = re.compile("[0-9a-f]{64}")

MAX_SEED = 2**63 - 1
_LARGE = 2**64  # no option may be: an int of a Decimal such as 1e999999 would fill the memory


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

    def check(self, name: str, value: object, error: type[Exception]) -> float:
        """`value` as an int or a float, if it is a number in the range; else raise `error`."""
        number = plain_number(value)
        if number in self and isinstance(number, int | float):
            return number
        kind = "a whole number" if self.whole else "a number"
        of = f" of {self.unit}" if self.unit else ""
        raise error(f"{name} is {shown(value)}; it must be {kind}{of}, {self}{self._hint(number)}")

    def _hint(self, value: object) -> str:
        """For a percentage where a fraction is expected."""
        if self.high == 1 and not self.whole and value in Range(1, 100, above=True):
            percentage = float(str(value))
            return f". For {percentage:g} % write {percentage / 100:g}"
        return ""


def plain_number(value: object) -> object:
    """Numbers of NumPy and the standard library as int or float; anything else as it is."""
    if type(value) in {int, float, bool}:  # nearly always
        return value
    try:
        if isinstance(value, Integral) and not isinstance(value, bool):
            return index(value)  # a time span of NumPy says it is one, and has none
        if isinstance(value, Decimal) and value == value.to_integral_value():
            return int(value) if abs(value) < _LARGE else float(value)
        return float(value) if isinstance(value, Real | Decimal) else value
    except Exception:  # noqa: BLE001  # a signaling NaN, beyond a float, or another library's error
        return value


def check_type(
    name: str, value: object, kind: type | UnionType, expected: str, error: type[Exception]
) -> None:
    """Raise `error` unless `value` is one of these."""
    if not isinstance(value, kind):
        raise error(f"{name} is {shown(value)}; it must be {expected}")


def is_sha256(value: object) -> bool:
    """Whether it is one in hex."""
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def check_sha256(name: str, value: object, error: type[Exception]) -> None:
    """Raise `error` unless it is one in hex."""
    if not is_sha256(value):
        raise error(f"{name} is {shown(value)}; it must be 64 hex digits")


def check_fields(instance: object, ranges: Mapping[str, Range], error: type[Exception]) -> None:
    """Check these fields of a new frozen dataclass, and make them int or float."""
    for name, allowed in ranges.items():
        value = getattr(instance, name)
        number = allowed.check(name, value, error)
        if number is not value:
            object.__setattr__(instance, name, number)


def shown(value: object) -> str:
    """Its `repr`, shortened; some have none, such as numbers of thousands of digits."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # whatever it is, the message is about the option
        text = f"of type {type(value).__name__}"
    return shortened(text)


def shortened(text: object, most: int = _SHOWN) -> str:
    """Its first characters, for messages that quote what may be of any length, such as a file."""
    text = str(text)
    return text if len(text) <= most else f"{text[:most]}..."


# What each field of SamplingParams may be. A seed is a key of the random generator.
SAMPLING_RANGES: Mapping[str, Range] = {
    "temperature": Range(0, 100),
    "top_k": Range(0, 2**31 - 1, whole=True),
    "top_p": Range(0, 1, above=True),
    "min_p": Range(0, 1),
    "repetition_penalty": Range(0.01, 100),
    "presence_penalty": Range(-2, 2),
    "frequency_penalty": Range(-2, 2),
    "seed": Range(0, MAX_SEED, whole=True),
}
