"""Aligned arrays that a native runtime can use in place."""

import math
import mmap
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.backend import Shape

ALIGNMENT = 64  # bytes; LiteRT copies arrays with a smaller alignment


def aligned(shape: Shape, dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros at an aligned address."""
    (array,) = stacked(1, shape, dtype)
    return array  # type: ignore[no-any-return]  # NumPy's stubs do not say what iterating gives


def stacked(count: int, shape: Shape, dtype: type[np.generic]) -> NDArray[Any]:
    """Zeros (count, *shape), each of the `count` arrays at an aligned address.

    The system commits the memory page by page, on first write.
    """
    items, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    stride = -(-items * itemsize // ALIGNMENT) * ALIGNMENT // itemsize
    memory = np.frombuffer(_pages(count * stride * itemsize), dtype)
    return memory.reshape(count, stride)[:, :items].reshape(count, *shape)


def _pages(size: int) -> mmap.mmap:
    """Memory straight from the system.

    NumPy's own may come in huge pages, so that a few written rows would commit far too much.
    """
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size)  # Windows
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        with suppress(OSError):  # a kernel without huge pages
            memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory
