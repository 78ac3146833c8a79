"""Importing TensorFlow and Keras late, when a command needs them, and without their banners."""

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from edgewise_cloud.console import SILENT, Progress, exit_interrupted, without_native_logs


def import_tensorflow(progress: Progress = SILENT, *, hub: bool = True) -> None:
    """Import both, and KerasHub unless `hub` is False; their warnings about missing GPUs stay off
    standard error.

    It takes several seconds, and Ctrl-C exits at once meanwhile.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if not {"tensorflow", "keras", *(["keras_hub"] if hub else [])} <= sys.modules.keys():
        progress.step("importing TensorFlow")
    with without_native_logs(), _exiting_on_interrupt(), _without_garbage_collection():
        import keras
        import tensorflow as tf

        if hub:
            import keras_hub  # noqa: F401
        if keras.backend.backend() == "tensorflow":
            tf.constant(0)  # lists the devices


@contextmanager
def _exiting_on_interrupt() -> Iterator[None]:
    """Leave alone a handler that is not Python's own, and threads, which cannot set one."""
    ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if ours:
        signal.signal(signal.SIGINT, exit_interrupted)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """It would take a fifth of the time, and frees next to nothing.

    Nor does it later: what is imported stays out of collections, which would stop streams, and take
    a third of the time of tracing a program.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
