"""Importing TensorFlow and Keras late, when a command needs them, and without their banners."""

import os

from edgewise_edge.runtime.stderr import captured_stderr


def import_tensorflow() -> None:
    """Import both; their warnings about missing GPUs stay off standard error."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with captured_stderr():
        import keras
        import keras_hub  # noqa: F401
        import tensorflow as tf

        if keras.backend.backend() == "tensorflow":
            tf.constant(0)  # lists the devices
