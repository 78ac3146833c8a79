"""Lookup tables in int8."""

import numpy as np
import tensorflow as tf

from edgewise_cloud.int8_table import Int8Table


def test_each_row_is_rounded_on_its_own_scale() -> None:
    """Short rows lose no more, relatively, than long ones; a row of zeros stays one."""
    generator = np.random.default_rng(0)
    lengths = np.array([[1e-3], [1.0], [50.0], [0.0]])
    table = (generator.uniform(-1, 1, (4, 64)) * lengths).astype(np.float32)
    found = Int8Table.of(table).floats()
    assert (np.abs(found - table) <= np.abs(table).max(axis=1, keepdims=True) / 253).all()
    assert (found[3] == 0).all()


def test_rows_in_a_graph_are_those_of_the_table() -> None:
    """What the device looks up is what the head multiplies with, to the last bit."""
    table = np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32)
    int8 = Int8Table.of(table)
    ids = np.array([3, 0, 19], np.int32)
    found = tf.function(int8.rows)(tf.constant(ids)).numpy()
    np.testing.assert_array_equal(found, int8.floats()[ids])
