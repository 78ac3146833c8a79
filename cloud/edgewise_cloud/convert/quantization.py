"""What a device model's weights are stored as, and the numbers of each form."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # weights that share a scale in 4 bits: the smallest block LiteRT has
# Where the largest weight of a block may fall: further out clips it, further in is coarser.
OUTERMOST_CODES = np.linspace(6.0, 9.0, 13)
_TINY = 1e-12  # a scale for weights that are all zero
_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)


class Quantization(StrEnum):
    """How weights are stored; activations and caches stay in float32."""

    NONE = "none"
    FLOAT16 = "float16"
    INT8 = "int8"  # a scale for each row
    INT4 = "int4"  # a scale for each 32 weights of a row


class Target(StrEnum):
    """The runtime a model is made for."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"  # 2.14, the last of that name


@dataclass(frozen=True, slots=True)
class Codes:
    """A matrix as integers and scales: row r, column c is codes[r, c] * scales[r, c // block].

    `codes` is int8 (rows, columns); 4-bit codes lie in it one to a byte.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.floating]

    def floats(self) -> NDArray[np.float32]:
        """The matrix as it will be read, (rows, columns)."""
        rows, blocks = self.scales.shape
        grouped = self.codes.reshape(rows, blocks, -1).astype(np.float32)
        return (grouped * self.scales.astype(np.float32)[..., None]).reshape(rows, -1)


def int8_rows(matrix: NDArray[np.float32]) -> Codes:
    """8 bits a weight, a float32 scale for each row; -128 is left out, as TFLite wants it."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), _TINY) / 127
    return Codes(np.round(matrix / scales).astype(np.int8), scales.astype(np.float32))


def int4_blocks(matrix: NDArray[np.float32]) -> Codes:
    """4 bits a weight, a scale for each block of 32, chosen for the least squared error.

    Codes reach from -8 to 7. Scales are float16 in the file and bfloat16 in XNNPACK, so they are
    numbers that both hold.
    """
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    largest = np.abs(blocks).max(-1)
    scales = np.zeros(largest.shape, np.float32)
    codes = np.zeros(blocks.shape, np.int8)
    least = np.full(largest.shape, np.inf)
    for outermost in OUTERMOST_CODES:
        tried = _bfloat16(np.maximum(largest / outermost, _SMALLEST_SCALE))
        rounded = np.clip(np.round(blocks / tried[..., None]), -8, 7)
        error = np.square(rounded * tried[..., None] - blocks).sum(-1)
        better = error < least
        scales[better], least[better] = tried[better], error[better]
        codes[better] = rounded[better]
    return Codes(codes.reshape(rows, columns), scales.astype(np.float16))


def packed_nibbles(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two 4-bit codes to a byte, the first in the low half."""
    pairs: NDArray[np.uint8] = codes.reshape(-1, 2).view(np.uint8) & np.uint8(0xF)
    return pairs[:, 0] + pairs[:, 1] * np.uint8(16)


def _bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to the nearest bfloat16."""
    bits = np.asarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
