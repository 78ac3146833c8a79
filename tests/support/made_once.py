"""What all processes of a test run share: converted graphs.

Making a graph takes half of a conversion's time, and many tests convert the same weights. XLA's own
cache would not help: its keys count what a process traced before.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge.store.manifest import Architecture

FOLDER = "EDGEWISE_TESTS_MADE_ONCE"

GraphMaker = Callable[..., bytes]  # of weights, their shape, and options


def configure(config: pytest.Config) -> None:
    """In the first process, make the folder that the others find in their environment."""
    if FOLDER in os.environ:
        return
    folder = tempfile.mkdtemp(prefix="edgewise-tests-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ[FOLDER] = folder


def graph_maker(make: GraphMaker) -> GraphMaker:
    """`make`, which is called only for weights that no process has converted yet."""

    def made(weights: dict[str, np.ndarray], shape: Architecture, **options: object) -> bytes:
        digest = hashlib.sha256(repr((shape, options)).encode())
        for name, value in sorted(weights.items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
        path = Path(os.environ[FOLDER]) / f"{digest.hexdigest()}.tflite"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_bytes(make(weights, shape, **options))
            partial.rename(path)
        return path.read_bytes()

    return made
