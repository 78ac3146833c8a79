"""Quantized matrices: their error, and what the runtimes require of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgewise_cloud.convert.quantization import (
    BLOCK,
    pack_int4,
    quantize_int4_blockwise,
    quantize_int8_per_row,
)

matrices = arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.sampled_from([BLOCK, 3 * BLOCK])),
    elements=st.floats(-100, 100, width=32),
)


@given(matrices)
def test_int8_is_off_by_half_a_step_at_most(matrix: np.ndarray) -> None:
    """A step is the row's scale, and -128 is never used."""
    quantized = quantize_int8_per_row(matrix)
    assert quantized.codes.min() >= -127
    off = np.abs(quantized.dequantized() - matrix)
    assert (off <= 0.501 * quantized.scales + 1e-12).all()


@given(matrices)
def test_int4_is_no_worse_than_rounding_to_the_largest_weight(matrix: np.ndarray) -> None:
    """The search for a block's scale beats the simple choice."""
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    plain = np.maximum(np.abs(blocks).max(-1, keepdims=True) / 7, np.finfo(np.float16).tiny)
    plain_error = np.square(np.round(blocks / plain) * plain - blocks).sum()
    error = np.square(quantize_int4_blockwise(matrix).dequantized() - matrix).sum()
    # These scales have 8 bits of mantissa, the simple ones 24: each weight moves by that much more.
    rounding = np.square(matrix / 2**8).sum()
    assert np.sqrt(error) <= 1.01 * (np.sqrt(plain_error) + np.sqrt(rounding)) + 1e-6


@given(matrices)
def test_int4_scales_are_exact_in_both_formats(matrix: np.ndarray) -> None:
    """Positive, normal, and the same number in float16 and in bfloat16."""
    scales = quantize_int4_blockwise(matrix).scales
    assert scales.dtype == np.float16
    assert (scales >= np.finfo(np.float16).smallest_normal).all()
    bits = scales.astype(np.float32).view(np.uint32)
    assert not (bits & 0xFFFF).any()


@pytest.mark.parametrize("codes", [[1, 2, 7, -8], [-1, 0, 0, -1], [-8, -8, 7, 7]])
def test_packed_int4_can_be_unpacked(codes: list[int]) -> None:
    """The first code is in the low half of its byte."""
    packed = pack_int4(np.array(codes, np.int8))
    low, high = (packed << 4).view(np.int8) >> 4, packed.view(np.int8) >> 4
    assert np.stack([low, high], axis=-1).reshape(-1).tolist() == codes
