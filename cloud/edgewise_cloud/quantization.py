"""What a device model's weights are stored as."""

from enum import StrEnum


class Quantization(StrEnum):
    """Arithmetic stays in float32 either way."""

    NONE = "none"
    INT8 = "int8"  # one scale per output channel
