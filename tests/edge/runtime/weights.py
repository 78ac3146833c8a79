"""What the tests of prepared weights share."""

import errno
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewise_edge import DeviceModel
from edgewise_edge.runtime.session import Runtime

DAY = 24 * 3600.0  # seconds
Logits = NDArray[np.float32]


def read_only(*_: object, **__: object) -> None:
    """Fail as a call that writes to a read-only file system does."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def outputs(runtime: Runtime) -> list[Logits]:
    """Logits from both signatures."""
    session = runtime.session()
    return [session.forward(tokens).copy() for tokens in (list(range(70)), [7], [8, 9])]


def load(folder: Path, weights: Path) -> list[Logits]:
    """The outputs of the model, loaded with prepared weights in the folder `weights`."""
    return outputs(DeviceModel.load(folder, threads=1, weight_cache=weights).runtime)


def assert_same(found: list[Logits], expected: list[Logits]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
