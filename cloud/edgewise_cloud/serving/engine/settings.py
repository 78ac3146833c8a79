"""The engine's kind, limits and precision; importable without TensorFlow."""

from dataclasses import dataclass
from enum import StrEnum

from edgewise_cloud.errors import ServeError


class Precision(StrEnum):
    """The type of weights, caches and products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class EngineKind(StrEnum):
    """What computes the steps."""

    KERAS = "keras"  # the checkpoint itself, compiled by Keras's backend: the reference
    LITERT = "litert"  # the device's quantized model on LiteRT, for processors


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What computes, how many requests at once, and in which precision. Raises ServeError."""

    kind: EngineKind = EngineKind.KERAS
    slots: int = 16  # running requests
    queue: int = 64  # waiting requests
    # Running and waiting requests of one caller; None: everything while others need nothing, and an
    # even share of what they do.
    per_caller: int | None = None
    dtype: Precision = Precision.FLOAT32  # of weights and caches; of EngineKind.KERAS

    def __post_init__(self) -> None:
        """Raise ServeError for an unknown kind, and for settings that exclude each other."""
        try:
            object.__setattr__(self, "kind", EngineKind(self.kind))
        except ValueError as error:
            kinds = " or ".join(EngineKind)
            raise ServeError(f"the engine's kind is {self.kind!r}; it must be {kinds}") from error
        if self.kind == EngineKind.LITERT and self.dtype != Precision.FLOAT32:
            raise ServeError(
                f"--dtype is {self.dtype}, but --engine litert has weights of 8 bits and caches of 16; "
                "leave --dtype out, or use --engine keras"
            )
