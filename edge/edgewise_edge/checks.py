"""The values that a numeric option may have, and the message for any other."""

from collections.abc import Mapping
from dataclasses import dataclass

MAX_SEED = 2**63 - 1


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


# What each field of SamplingParams may be. A seed is a key of the random generator.
SAMPLING_RANGES: Mapping[str, Range] = {
    "temperature": Range(0, 100),
    "top_k": Range(0, 2**31 - 1, whole=True),
    "top_p": Range(0, 1, above=True),
    "repetition_penalty": Range(0.01, 100),
    "seed": Range(0, MAX_SEED, whole=True),
}
