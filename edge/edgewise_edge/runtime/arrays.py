"""Arrays that a native runtime may use in place."""

import math
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.backend import Shape

ALIGNMENT = 64  # bytes; LiteRT copies what is aligned less


def aligned(shape: Shape, dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros at an aligned address."""
    (array,) = stacked(1, shape, dtype)
    return array  # type: ignore[no-any-return]  # NumPy's stubs do not say what iterating gives


def stacked(count: int, shape: Shape, dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros (count, *shape), each of the `count` arrays at an aligned address.

    The memory is taken from the system page by page, as it is first written to.
    """
    items, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    stride = -(-items * itemsize // ALIGNMENT) * ALIGNMENT // itemsize
    memory = np.frombuffer(_pages(count * stride * itemsize), dtype)
    return memory.reshape(count, stride)[:, :items].reshape(count, *shape)


def _pages(size: int) -> mmap.mmap:
    """Memory straight from the system: NumPy's own may come in huge pages, of which a few written
    rows would take many.
    """
    if hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return mmap.mmap(-1, size)  # Windows
