"""The backend for LiteRT's CompiledModel, which reads and writes our arrays in place."""

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
from edgewise_edge.runtime.backend import Shape, SignatureShapes, Step, Tensors

_NO_FILE = ":memory"  # XNNPACK's name for a weight cache that signatures share, without a file


class CompiledBackend:
    """The `.tflite` at `path`, mapped into memory and compiled for `threads` CPU threads.

    XNNPACK repacks the weights for its kernels. It maps repacked weights from the file
    `weight_cache`, or writes that file if there is none. All signatures and processes share it.
    """

    name = "LiteRT"

    def __init__(self, path: Path, threads: int, weight_cache: Path | None = None) -> None:
        cpu = CpuOptions(
            num_threads=threads, xnnpack_weight_cache_path=str(weight_cache or _NO_FILE)
        )
        self._model = CompiledModel.from_file(
            str(path), environment=_environment(), options=Options(cpu_options=cpu)
        )
        self._input_shapes: dict[str, list[Shape]] = {}  # each signature's current ones
        self.signatures = {
            name: SignatureShapes(
                _shapes(self._model.get_input_tensor_details(name), tensors["inputs"]),
                _shapes(self._model.get_output_tensor_details(name), tensors["outputs"]),
            )
            for name, tensors in self._model.get_signature_list().items()
        }

    def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
        """Register our arrays with LiteRT; nothing is copied, now or in a step."""
        names, index = self.signatures[signature], self._model.get_signature_index(signature)
        shapes = [inputs[name].shape for name in names.inputs]
        shared_inputs = [_SharedArray(inputs[name]) for name in names.inputs]
        shared_outputs = [_SharedArray(outputs[name]) for name in names.outputs]
        input_buffers = [shared.buffer for shared in shared_inputs]
        output_buffers = [shared.buffer for shared in shared_outputs]

        def step(_keep_alive: Any = (shared_inputs, shared_outputs)) -> None:
            if self._input_shapes.get(signature) != shapes:
                # If a resize fails halfway, no shapes are current: the next step resizes all inputs.
                self._input_shapes.pop(signature, None)
                for position, shape in enumerate(shapes):
                    self._model.resize_input_tensor(position, shape, index, strict=False)
                self._input_shapes[signature] = shapes
            self._model.run_by_index(index, input_buffers, output_buffers)

        return step


def shares_memory() -> bool:
    """Whether the installed LiteRT can use our arrays, as CompiledBackend needs it to."""
    try:
        _SharedArray(aligned((1,), np.float32))
    except (OSError, ValueError, AttributeError, RuntimeError):
        return False
    return True


def _shapes(details: dict[str, Any], names: Iterable[str]) -> dict[str, Shape]:
    return {name: tuple(details[name]["shape"]) for name in names}


@functools.cache
def _environment() -> Environment:
    """LiteRT's process-wide state. It is never destroyed, because LiteRT would log that."""
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
    """LiteRT's C API. We need one function of it that the Python package does not use."""
    folder = Path(str(importlib.resources.files("ai_edge_litert")))
    (path,) = (path for path in folder.glob("*LiteRt.*") if path.stem in ("libLiteRt", "LiteRt"))
    return ctypes.CDLL(str(path))


class _SharedArray:
    """An array as LiteRT's tensor buffer.

    The Python package can wrap our memory too, but only as one dimension. The graph would have to
    reshape its inputs, and XNNPACK reshapes by copying: the whole cache, for every token. LiteRT's
    C API creates the buffer with its shape.
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
            raise RuntimeError(f"LiteRT cannot use our memory (status {status})")
        self.buffer = TensorBuffer(_capsule(handle, b"LiteRtTensorBuffer", None))
        weakref.finalize(self, _library().LiteRtDestroyTensorBuffer, handle).atexit = False


_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
