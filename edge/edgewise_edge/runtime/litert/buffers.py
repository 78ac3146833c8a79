"""Our arrays as LiteRT's tensor buffers."""

import ctypes
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.arrays import aligned
from edgewise_edge.runtime.litert.api import (
    ELEMENT_TYPES,
    Handle,
    Layout,
    TensorType,
    created,
    library,
)


class SharedArray:
    """An array as a tensor buffer with the same shape, which neither copies nor owns it.

    The Python package can wrap our memory too, but only as one dimension. The graph would have to
    reshape its inputs, and XNNPACK reshapes by copying: the whole cache, for every token.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        kind = TensorType(ELEMENT_TYPES[array.dtype], Layout(rank=array.ndim))
        kind.layout.dimensions[: array.ndim] = array.shape
        self.handle: Handle = created(
            "LiteRtCreateTensorBufferFromHostMemory",
            ctypes.byref(kind),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            None,
        )
        weakref.finalize(self, library().LiteRtDestroyTensorBuffer, self.handle).atexit = False


def shares_memory() -> bool:
    """Whether the installed LiteRT can use our arrays, by the C API that we use."""
    try:
        SharedArray(aligned((1,), np.float32))
    except (OSError, ValueError, AttributeError, RuntimeError):
        return False
    return True
