"""The backend for LiteRT's CompiledModel, which reads and writes our arrays in place."""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgewise_edge.runtime.backend import Shape, SignatureShapes, Step, Tensors
from edgewise_edge.runtime.litert.api import (
    Handle,
    TensorType,
    call,
    counted,
    created,
    library,
    named,
    require_ok,
)
from edgewise_edge.runtime.litert.buffers import SharedArray
from edgewise_edge.runtime.litert.compiling import CompiledModel, CustomOp
from edgewise_edge.runtime.signatures import is_fused


class CompiledBackend:
    """The `.tflite` at `path`, mapped into memory and compiled for `threads` CPU threads.

    XNNPACK repacks the weights for its kernels. It maps repacked weights from the file
    `weight_cache`, or writes that file if there is none. All signatures and processes share it.
    """

    name = "LiteRT"

    def __init__(
        self,
        path: Path,
        threads: int,
        weight_cache: Path | None = None,
        custom_ops: Sequence[CustomOp] = (),
    ) -> None:
        self._compiled = CompiledModel(path, threads, weight_cache, custom_ops)
        self._current: dict[int, list[Shape]] = {}  # input shapes, by the signature's index
        signatures = _signatures(self._compiled.model)
        self.signatures = {
            name: shapes for name, shapes in signatures.items() if custom_ops or not is_fused(name)
        }
        self._indices = {name: index for index, name in enumerate(signatures)}

    def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
        """Register our arrays with LiteRT; nothing is copied, now or in a step."""
        names, index = self.signatures[signature], self._indices[signature]
        shapes = [inputs[name].shape for name in names.inputs]
        shared = [SharedArray(inputs[name]) for name in names.inputs]
        shared_outputs = [SharedArray(outputs[name]) for name in names.outputs]
        arguments = (
            self._compiled.handle,
            ctypes.c_size_t(index),
            *_buffers(shared),
            *_buffers(shared_outputs),
        )
        run, current = library().LiteRtRunCompiledModel, self._current
        file = self._compiled.file

        def step(_keep_alive: Any = (self._compiled, shared, shared_outputs)) -> None:
            if resized := current.get(index) != shapes:
                self._resize(index, shapes)
            if status := run(*arguments):
                current.pop(index, None)  # LiteRT allocates a new size's memory when it runs it
                require_ok(status, "LiteRtRunCompiledModel")
            if resized and file:  # now and then
                file.drop_pages()

        return step

    def _resize(self, index: int, shapes: list[Shape]) -> None:
        # If a resize fails halfway, no shapes are current: the next step resizes all inputs.
        self._current.pop(index, None)
        for position, shape in enumerate(shapes):
            call(
                "LiteRtCompiledModelResizeInputTensorNonStrict",
                self._compiled.handle,
                ctypes.c_size_t(index),
                ctypes.c_size_t(position),
                (ctypes.c_int * len(shape))(*shape),
                ctypes.c_size_t(len(shape)),
            )
        self._current[index] = shapes


def _buffers(shared: list[SharedArray]) -> tuple[ctypes.c_size_t, ctypes.Array[Handle]]:
    """Their number and their handles, as LiteRT takes them."""
    handles = (Handle * len(shared))(*(each.handle for each in shared))
    return ctypes.c_size_t(len(shared)), handles


def _signatures(model: Handle) -> dict[str, SignatureShapes]:
    """By name, in the order of their indices."""
    found = {}
    for index in range(counted("LiteRtGetNumModelSignatures", model)):
        signature = created("LiteRtGetModelSignature", model, ctypes.c_size_t(index))
        found[named("LiteRtGetSignatureKey", signature)] = SignatureShapes(
            _tensors(signature, "Input"), _tensors(signature, "Output")
        )
    return found


def _tensors(signature: Handle, kind: str) -> dict[str, Shape]:
    shapes = {}
    for index in map(ctypes.c_size_t, range(counted(f"LiteRtGetNumSignature{kind}s", signature))):
        tensor = created(f"LiteRtGetSignature{kind}TensorByIndex", signature, index)
        type_ = TensorType()
        call("LiteRtGetRankedTensorType", tensor, ctypes.byref(type_))
        shapes[named(f"LiteRtGetSignature{kind}Name", signature, index)] = type_.shape
    return shapes
