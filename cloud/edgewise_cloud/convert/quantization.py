"""Quantizing a matrix of weights to 8 or 4 bits."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

BLOCK = 32  # weights that share a scale in 4 bits: the smallest block LiteRT has
# Candidate codes for the largest weight of a block: a higher one clips it, a lower one is coarser.
LARGEST_CODES = np.linspace(6.0, 9.0, 13)
_TINY = 1e-12  # a scale for weights that are all zero
_SMALLEST_SCALE = float(np.finfo(np.float16).smallest_normal)


class Quantization(StrEnum):
    """How weights are stored; activations and caches stay in float32."""

    NONE = "none"
    FLOAT16 = "float16"
    INT8 = "int8"  # a scale per row
    INT4 = "int4"  # a scale per 32 weights of a row


class Target(StrEnum):
    """The runtime a model is converted for."""

    LITERT = "litert"
    TFLITE_RUNTIME = "tflite-runtime"  # 2.14, its last release


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """A matrix as integers and scales: row r, column c is codes[r, c] * scales[r, c // block].

    `codes` is int8 (rows, columns), also for 4 bits: pack_int4() puts two into a byte.
    """

    codes: NDArray[np.int8]
    scales: NDArray[np.floating]

    def dequantized(self) -> NDArray[np.float32]:
        """The matrix as a runtime reads it, (rows, columns)."""
        rows, blocks = self.scales.shape
        grouped = self.codes.reshape(rows, blocks, -1).astype(np.float32)
        return (grouped * self.scales.astype(np.float32)[..., None]).reshape(rows, -1)


def quantize_int8_per_row(matrix: NDArray[np.float32]) -> QuantizedMatrix:
    """8 bits a weight and a float32 scale per row; -128 is not used, as TFLite requires."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), _TINY) / 127
    return QuantizedMatrix(np.round(matrix / scales).astype(np.int8), scales.astype(np.float32))


def quantize_int4_blockwise(matrix: NDArray[np.float32]) -> QuantizedMatrix:
    """4 bits a weight, and a scale per block of 32 that minimises the squared error.

    Codes range from -8 to 7. Scales are float16 in the file and bfloat16 in XNNPACK, so they are
    numbers that both represent exactly.
    """
    rows, columns = matrix.shape
    blocks = matrix.reshape(rows, columns // BLOCK, BLOCK)
    largest = np.abs(blocks).max(-1)
    scales = np.zeros(largest.shape, np.float32)
    codes = np.zeros(blocks.shape, np.int8)
    least_error = np.full(largest.shape, np.inf)
    for code in LARGEST_CODES:
        candidate = _bfloat16(np.maximum(largest / code, _SMALLEST_SCALE))
        rounded = np.clip(np.round(blocks / candidate[..., None]), -8, 7)
        error = np.square(rounded * candidate[..., None] - blocks).sum(-1)
        better = error < least_error
        scales[better], least_error[better] = candidate[better], error[better]
        codes[better] = rounded[better]
    return QuantizedMatrix(codes.reshape(rows, columns), scales.astype(np.float16))


def pack_int4(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Two 4-bit codes per byte, the first in the low half."""
    pairs: NDArray[np.uint8] = codes.reshape(-1, 2).view(np.uint8) & np.uint8(0xF)
    return pairs[:, 0] + pairs[:, 1] * np.uint8(16)


def _bfloat16(numbers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rounded to the nearest bfloat16."""
    bits = np.asarray(numbers, np.float32).view(np.uint32)
    return ((bits + 0x8000) & np.uint32(0xFFFF0000)).view(np.float32)
