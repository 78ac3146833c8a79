"""A lookup table held as int8, one scale for each row."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import tensorflow as tf

_LARGEST = 127  # -128 is left out, as in TFLite's own symmetric weights
_SCALE_BITS = 30


@dataclass(frozen=True, slots=True)
class Int8Table:
    """`codes` (rows, width) in int8, `scales` (rows,) as integers times 2 ** -`shift`.

    TFLite's converter stores a lookup table with one scale for all rows, which costs a GPT-2 whose
    rare tokens have short embeddings dearly, and quantises a float array of scales as well. Fixed
    point keeps its hands off: 30 bits for the largest scale, some 20 for the smallest.
    """

    codes: np.ndarray
    scales: np.ndarray
    shift: int

    @classmethod
    def of(cls, table: np.ndarray) -> Self:
        """Quantise `table` (rows, width)."""
        scales = np.maximum(np.abs(table).max(axis=1), 1e-12).astype(np.float64) / _LARGEST
        shift = _SCALE_BITS - int(np.ceil(np.log2(scales.max())))
        fixed = np.maximum(np.round(scales * 2.0**shift), 1).astype(np.int32)
        exact = fixed * 2.0**-shift
        codes = np.clip(np.round(table / exact[:, None]), -_LARGEST, _LARGEST).astype(np.int8)
        return cls(codes, fixed, shift)

    def floats(self) -> np.ndarray:
        """The table as the rows come out of it, (rows, width) in float32."""
        scales = self.scales.astype(np.float32) * np.float32(2.0**-self.shift)
        return self.codes.astype(np.float32) * scales[:, None]

    def rows(self, ids: tf.Tensor) -> tf.Tensor:
        """The rows (n, width) of `ids` (n,), in a graph."""
        scales = tf.cast(tf.gather(tf.constant(self.scales), ids), tf.float32) * 2.0**-self.shift
        codes = tf.cast(tf.gather(tf.constant(self.codes), ids), tf.float32)
        return codes * scales[:, None]
