"""A slice with a computed start, the one operation for which backends need different code."""

from typing import Any

import keras


def dynamic_slice(tensor: Any, start: Any, sizes: tuple[int, ...]) -> Any:
    """The part of `tensor` that begins at start[dimensions] and has these sizes.

    keras.ops.slice would do, but TensorFlow's XLA recompiles it for every start.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow.compiler.tf2xla.python import xla

        return xla.dynamic_slice(tensor, start, sizes)
    return keras.ops.slice(tensor, start, sizes)
