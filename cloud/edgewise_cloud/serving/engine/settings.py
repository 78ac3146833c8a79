"""How much an engine does at once; apart from it, for those who have not imported TensorFlow."""

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """What weights and caches are held and multiplied in."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How much at once."""

    slots: int = 16  # requests running at once
    queue: int = 64  # requests waiting behind them
    per_caller: int | None = None  # of both, for one caller; None: all
    dtype: Precision = Precision.FLOAT32  # of weights and caches
