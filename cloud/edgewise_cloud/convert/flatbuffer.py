"""Reading, changing and writing `.tflite` files through LiteRT's own schema classes."""

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

Op = schema.BuiltinOperator
Type = schema.TensorType


def parsed(model: bytes) -> Any:
    """The model as objects that can be changed (schema.ModelT)."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model))


def packed(model: Any) -> bytes:
    """The file of a `parsed` model, with equal constants stored once and unused ones dropped.

    The converter stores a constant once per kind of use: an embedding table that is looked up and
    multiplied with would be in the file twice.
    """
    first: dict[bytes, int] = {}
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            data = model.buffers[tensor.buffer].data
            if data is not None and len(data):
                tensor.buffer = first.setdefault(bytes(data), tensor.buffer)
    kept = set(first.values()) | {entry.buffer for entry in model.metadata or ()}
    for index, buffer in enumerate(model.buffers):
        if index not in kept:
            buffer.data = None
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class SharedQuantization(schema.QuantizationParametersT):  # type: ignore[misc]  # untyped
    """Quantization parameters that are written once for all the tensors that refer to them."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(**fields)
        self._written: tuple[flatbuffers.Builder, int] | None = None

    @classmethod
    def blockwise(cls, scales: int, size: int) -> "SharedQuantization":
        """A scale per `size` weights of a row, in the tensor `scales`."""
        blocks = schema.BlockwiseQuantizationT(scales=scales, zeroPoints=-1, blockSize=size)
        return cls(detailsType=schema.QuantizationDetails.BlockwiseQuantization, details=blocks)

    def Pack(self, builder: flatbuffers.Builder) -> int:  # noqa: N802  # the schema's name
        """Write the parameters, or return the offset where they were written before."""
        if not self._written or self._written[0] is not builder:
            self._written = (builder, super().Pack(builder))
        return self._written[1]


class Graph:
    """One subgraph of a parsed model, with methods that add tensors, buffers and operators."""

    def __init__(self, model: Any, subgraph: Any) -> None:
        self._model = model
        self.tensors: list[Any] = subgraph.tensors

    def kind(self, operator: Any) -> int:
        """The operator's BuiltinOperator."""
        return int(self._model.operatorCodes[operator.opcodeIndex].builtinCode)

    def constant(self, buffer: int) -> bool:
        """Whether a buffer holds a constant."""
        data = self._model.buffers[buffer].data
        return data is not None and len(data) > 0

    def floats(self, tensor: Any) -> NDArray[np.float32]:
        """The values of a constant float32 tensor, in its shape."""
        data = np.asarray(self._model.buffers[tensor.buffer].data, np.uint8)
        return data.view(np.float32).reshape(tensor.shape)

    def add_buffer(self, data: NDArray[Any]) -> int:
        """Add a buffer with the bytes of `data`; return its index."""
        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._model.buffers.append(schema.BufferT(data=flat))
        return len(self._model.buffers) - 1

    def tensor(
        self,
        name: str | bytes,
        shape: Sequence[int],
        type_: int,
        buffer: int,
        quantization: SharedQuantization | None = None,
    ) -> int:
        """Add a tensor; return its index."""
        self.tensors.append(
            schema.TensorT(
                name=name,
                shape=np.array(shape, np.int32),
                type=type_,
                buffer=buffer,
                quantization=quantization,
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def computed(self, name: str, shape: Sequence[int], type_: int) -> int:
        """Add a tensor for an op to write; return its index. Buffer 0 is the empty one."""
        return self.tensor(name, shape, type_, 0)

    def operator(self, kind: int, version: int, inputs: list[int], out: int) -> Any:
        """Make an operator with the default options of its kind."""
        codes = self._model.operatorCodes
        known = [index for index, code in enumerate(codes) if code.builtinCode == kind]
        if not known:
            known = [len(codes)]
            codes.append(schema.OperatorCodeT(builtinCode=kind, deprecatedBuiltinCode=kind))
        made = schema.OperatorT(
            opcodeIndex=known[0],
            inputs=np.array(inputs, np.int32),
            outputs=np.array([out], np.int32),
        )
        self.require_version(made, version)
        return made

    def require_version(self, operator: Any, version: int) -> None:
        """Raise the version of the operator's definition to at least `version`."""
        code = self._model.operatorCodes[operator.opcodeIndex]
        code.version = max(code.version, version)
