"""LiteRT's C API. ctypes gives up the GIL during a call, which LiteRT's Python package does not."""

import ctypes
import functools
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np

from edgewise_edge.runtime.backend import Shape

Handle = ctypes.c_void_p
MAX_RANK = 8  # LITERT_TENSOR_MAX_RANK
ELEMENT_TYPES = {  # LiteRtElementType
    np.dtype(np.float32): 1,
    np.dtype(np.int32): 2,
    np.dtype(np.float16): 10,
}


class Layout(ctypes.Structure):
    """LiteRtLayout of litert/c/litert_layout.h."""

    _fields_ = (
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * MAX_RANK),
        ("strides", ctypes.c_uint32 * MAX_RANK),
    )


class TensorType(ctypes.Structure):
    """LiteRtRankedTensorType of litert/c/litert_model_types.h."""

    _fields_ = (("element_type", ctypes.c_int), ("layout", Layout))

    @property
    def shape(self) -> Shape:
        """Dynamic dimensions are -1."""
        return tuple(self.layout.dimensions[: self.layout.rank])


class _Integer(ctypes.Structure):
    """LiteRtAny of litert/c/litert_any.h, holding an integer."""

    _fields_ = (("type", ctypes.c_int), ("value", ctypes.c_int64))


class EnvironmentOption(ctypes.Structure):
    """LiteRtEnvOption of litert/c/litert_environment_options.h."""

    _fields_ = (("tag", ctypes.c_int), ("value", _Integer))

    @classmethod
    def of(cls, tag: int, value: int) -> "EnvironmentOption":
        """An option whose value is an integer."""
        return cls(tag, _Integer(2, value))  # kLiteRtAnyTypeInt


@functools.cache
def library() -> ctypes.CDLL:
    """The library itself, in the Python package."""
    folder = Path(ai_edge_litert.__file__).parent
    (path,) = (path for path in folder.glob("*LiteRt.*") if path.stem in ("libLiteRt", "LiteRt"))
    return ctypes.CDLL(str(path))


def call(function: str, *arguments: Any) -> None:
    """Raises RuntimeError where the function returns an error."""
    require_ok(getattr(library(), function)(*arguments), function)


def require_ok(status: int, function: str) -> None:
    """Raise RuntimeError unless `status`, which the function returned, is kLiteRtStatusOk."""
    if status == 2:  # kLiteRtStatusErrorMemoryAllocationFailure
        raise MemoryError(f"{function} failed (status {status})")
    if status:
        raise RuntimeError(f"{function} failed (status {status})")


def created(function: str, *arguments: Any) -> Handle:
    """What the function writes to its last parameter."""
    handle = Handle()
    call(function, *arguments, ctypes.byref(handle))
    return handle


def counted(function: str, of: Handle) -> int:
    """The number that the function writes to its second parameter."""
    count = ctypes.c_size_t()
    call(function, of, ctypes.byref(count))
    return count.value


def named(function: str, of: Handle, *index: ctypes.c_size_t) -> str:
    """The text that the function writes to its last parameter."""
    name = ctypes.c_char_p()
    call(function, of, *index, ctypes.byref(name))
    return (name.value or b"").decode()
