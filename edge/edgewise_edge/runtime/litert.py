"""Running a model with LiteRT's CompiledModel, which reads and writes our memory in place."""

import ctypes
import functools
import importlib.resources
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options
from ai_edge_litert.environment import Environment
from ai_edge_litert.tensor_buffer import TensorBuffer
from numpy.typing import NDArray

from edgewise_edge.runtime.arrays import aligned
from edgewise_edge.runtime.backend import Ends, Memory, Shape, Step

_NO_FILE = ":memory"  # XNNPACK's name for a weight cache that is shared, but not kept


class CompiledBackend:
    """The `.tflite` at `path`, mapped into memory and compiled for `threads` CPU threads.

    XNNPACK lays the weights out anew for its kernels. It maps what it made before from the file
    `weight_cache`, and makes that file where there is none; all signatures share it, and so do
    all processes.
    """

    name = "LiteRT"

    def __init__(self, path: Path, threads: int, weight_cache: Path | None = None) -> None:
        cpu = CpuOptions(
            num_threads=threads, xnnpack_weight_cache_path=str(weight_cache or _NO_FILE)
        )
        self._model = CompiledModel.from_file(
            str(path), environment=_environment(), options=Options(cpu_options=cpu)
        )
        self._bound: dict[str, list[Shape]] = {}  # the shapes each signature has now
        self.signatures = {
            name: Ends(
                _shapes(self._model.get_input_tensor_details(name), ends["inputs"]),
                _shapes(self._model.get_output_tensor_details(name), ends["outputs"]),
            )
            for name, ends in self._model.get_signature_list().items()
        }

    def bind(self, signature: str, inputs: Memory, outputs: Memory) -> Step:
        """Let LiteRT know our arrays; nothing is copied, then or later."""
        ends, index = self.signatures[signature], self._model.get_signature_index(signature)
        arrays = [inputs[name] for name in ends.inputs]
        shapes = [array.shape for array in arrays]
        ours = [_Shared(array) for array in arrays]
        theirs = [_Shared(outputs[name]) for name in ends.outputs]
        given, taken = [shared.buffer for shared in ours], [shared.buffer for shared in theirs]

        def step(_keep: Any = (ours, theirs)) -> None:
            if self._bound.get(signature) != shapes:
                # Half resized, the model fits no binding: the next one resizes it whole.
                self._bound.pop(signature, None)
                for position, shape in enumerate(shapes):
                    self._model.resize_input_tensor(position, shape, index, strict=False)
                self._bound[signature] = shapes
            self._model.run_by_index(index, given, taken)

        return step


def shares_memory() -> bool:
    """Whether the installed LiteRT can use memory of ours as CompiledBackend wants it."""
    try:
        _Shared(aligned((1,), np.float32))
    except (OSError, ValueError, AttributeError, RuntimeError):
        return False
    return True


def _shapes(details: dict[str, Any], names: Iterable[str]) -> dict[str, Shape]:
    return {name: tuple(details[name]["shape"]) for name in names}


@functools.cache
def _environment() -> Environment:
    """LiteRT's process-wide state, made once and never torn down (which LiteRT would log)."""
    environment = Environment.create()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    return environment


class _Layout(ctypes.Structure):
    """LiteRtLayout of litert/c/litert_layout.h."""

    _fields_ = (
        ("rank", ctypes.c_uint, 7),
        ("has_strides", ctypes.c_uint, 1),
        ("dimensions", ctypes.c_int32 * 8),
        ("strides", ctypes.c_uint32 * 8),
    )


class _TensorType(ctypes.Structure):
    """LiteRtRankedTensorType of litert/c/litert_model_types.h."""

    _fields_ = (("element_type", ctypes.c_int), ("layout", _Layout))


_ELEMENT_TYPES = {np.dtype(np.float32): 1, np.dtype(np.int32): 2}  # LiteRtElementType


@functools.cache
def _library() -> ctypes.CDLL:
    """LiteRT's C API, of which the Python package uses all that we need but one function."""
    folder = Path(str(importlib.resources.files("ai_edge_litert")))
    (path,) = (path for path in folder.glob("*LiteRt.*") if path.stem in ("libLiteRt", "LiteRt"))
    return ctypes.CDLL(str(path))


class _Shared:
    """An array as LiteRT's tensor buffer.

    The Python package makes such buffers of our memory too, but of one dimension only. To give
    them more, the graph would have to reshape its inputs, and XNNPACK reshapes by copying: the
    whole cache, for every token. So they are made by LiteRT's own C API, with their shape.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array  # the buffer does not own it
        kind = _TensorType(_ELEMENT_TYPES[array.dtype], _Layout(rank=array.ndim))
        kind.layout.dimensions[: array.ndim] = array.shape
        handle = ctypes.c_void_p()
        status = _library().LiteRtCreateTensorBufferFromHostMemory(
            ctypes.byref(kind),
            ctypes.c_void_p(array.ctypes.data),
            ctypes.c_size_t(array.nbytes),
            None,
            ctypes.byref(handle),
        )
        if status != 0:
            raise RuntimeError(f"LiteRT cannot use memory of ours (status {status})")
        self.buffer = TensorBuffer(_capsule(handle, b"LiteRtTensorBuffer", None))
        weakref.finalize(self, _library().LiteRtDestroyTensorBuffer, handle).atexit = False


_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
