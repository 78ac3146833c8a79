"""The kernel of the operator `edgewise.attention` (attention.c), where it was compiled."""

import ctypes
import functools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from edgewise_edge.runtime.litert.api import library
from edgewise_edge.runtime.litert.compiling import CustomOp
from edgewise_edge.runtime.signatures import ATTENTION

_log = logging.getLogger("edgewise_edge.runtime")


@contextmanager
def attention_ops(threads: int) -> Iterator[Sequence[CustomOp]]:
    """The operator for a model that is compiled within, for so many threads; none without the kernel.

    The compiled model's operators hold what they share for as long as they exist.
    """
    kernel, litert = _kernel(), library()
    shared = kernel and kernel.edgewise_attention_new(
        threads, litert.LiteRtGetTensorBufferHostMemory, litert.LiteRtGetTensorBufferTensorType
    )
    if not kernel or not shared:
        yield ()
        return
    functions = ctypes.c_byte.in_dll(kernel, "edgewise_attention_kernel")
    try:
        yield (CustomOp(ATTENTION, 1, ctypes.addressof(functions), shared),)
    finally:
        kernel.edgewise_attention_release(shared)


@functools.cache
def _kernel() -> ctypes.CDLL | None:
    """What hatch_build.py compiled and put beside this file."""
    for path in Path(__file__).parent.glob("_attention.so"):
        try:
            kernel = ctypes.CDLL(str(path))
            kernel.edgewise_attention_new.restype = ctypes.c_void_p
            kernel.edgewise_attention_new.argtypes = [
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
            ]
            kernel.edgewise_attention_release.restype = None
            kernel.edgewise_attention_release.argtypes = [ctypes.c_void_p]
        except (OSError, AttributeError) as error:  # of another processor, or of older code
            _log.warning("%s cannot be used (%s); models run without it", path, error)
            continue
        return kernel
    return None
