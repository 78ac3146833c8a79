"""The engine's limits and precision; importable without TensorFlow."""

from dataclasses import dataclass
from enum import StrEnum


class Precision(StrEnum):
    """The type of weights, caches and products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """How many requests at once, and in which precision."""

    slots: int = 16  # running requests
    queue: int = 64  # waiting requests
    # Running and waiting requests of one caller; None: everything while others need nothing, and an
    # even share of what they do.
    per_caller: int | None = None
    dtype: Precision = Precision.FLOAT32  # of weights and caches
