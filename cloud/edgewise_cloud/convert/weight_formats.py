"""The formats in which LiteRT reads a matrix of weights, and the ops that read each."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.convert.flatbuffer import Graph, Op, SharedQuantization, Type
from edgewise_cloud.convert.quantization import (
    BLOCK,
    pack_int4,
    quantize_int4_blockwise,
    quantize_int8_per_row,
)


@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """A matrix in its new format: the buffer with its numbers, and how to read them."""

    buffer: int
    quantization: SharedQuantization | None = None
    scales: int = 0  # the buffer of scales that are a tensor of their own


class WeightFormat(ABC):
    """One way to store matrices."""

    type: int  # TensorType of a stored matrix

    def __init__(self) -> None:
        self._by_float_buffer: dict[int, StoredMatrix] = {}
        self._by_buffer: dict[int, StoredMatrix] = {}

    def can_store(self, graph: Graph, index: int) -> bool:
        """Whether the tensor is a constant float32 matrix, or was one before it was stored."""
        tensor = graph.tensors[index]
        return tensor.buffer in self._by_buffer or bool(
            tensor.type == Type.FLOAT32 and len(tensor.shape) == 2 and graph.constant(tensor.buffer)
        )

    @abstractmethod
    def fully_connected(self, graph: Graph, operator: Any) -> list[Any]:
        """The ops that replace a FULLY_CONNECTED."""

    @abstractmethod
    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """The ops that replace a GATHER of rows."""

    @abstractmethod
    def add_matrix(self, graph: Graph, matrix: NDArray[np.float32]) -> StoredMatrix:
        """Add the buffers of a matrix in this format to the model."""

    def refer(self, graph: Graph, tensor: Any, stored: StoredMatrix) -> None:  # noqa: ARG002
        """Make the float32 `tensor` refer to the stored matrix; some formats need the graph."""
        tensor.type, tensor.buffer = self.type, stored.buffer
        tensor.quantization = stored.quantization

    def store(self, graph: Graph, index: int) -> StoredMatrix:
        """Store the matrix of the tensor, once for all tensors that share its buffer."""
        tensor = graph.tensors[index]
        if tensor.buffer in self._by_buffer:
            return self._by_buffer[tensor.buffer]
        if tensor.buffer not in self._by_float_buffer:
            added = self.add_matrix(graph, graph.floats(tensor))
            self._by_float_buffer[tensor.buffer] = self._by_buffer[added.buffer] = added
        stored = self._by_float_buffer[tensor.buffer]
        self.refer(graph, tensor, stored)
        return stored


class Float16(WeightFormat):
    """Widened to float32 when the model is loaded (products) or row by row (lookups)."""

    type = Type.FLOAT16

    def fully_connected(self, graph: Graph, operator: Any) -> list[Any]:
        """DEQUANTIZE, and the same FULLY_CONNECTED."""
        x, weights, *bias = operator.inputs
        widen, wide = self.widened(graph, weights)
        operator.inputs = np.array([x, wide, *bias], np.int32)
        return [widen, operator]

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """EMBEDDING_LOOKUP, and DEQUANTIZE of the rows."""
        (table, ids), (out,) = operator.inputs, operator.outputs
        self.store(graph, table)
        rows = graph.computed("rows", graph.tensors[out].shape, Type.FLOAT16)
        return [
            graph.operator(Op.EMBEDDING_LOOKUP, 1, [ids, table], rows),
            graph.operator(Op.DEQUANTIZE, 3, [rows], out),
        ]

    def widened(self, graph: Graph, index: int) -> tuple[Any, int]:
        """An op that widens a stored matrix, and the tensor it writes."""
        self.store(graph, index)
        wide = graph.computed("wide", graph.tensors[index].shape, Type.FLOAT32)
        return graph.operator(Op.DEQUANTIZE, 3, [index], wide), wide

    def add_matrix(self, graph: Graph, matrix: NDArray[np.float32]) -> StoredMatrix:
        """Two bytes a weight."""
        with np.errstate(over="ignore"):  # convert() refuses a model with infinite weights
            return StoredMatrix(graph.add_buffer(matrix.astype(np.float16)))


class Int8PerRow(WeightFormat):
    """8 bits and a scale per row, which LiteRT's kernels multiply with directly."""

    type = Type.INT8
    fully_connected_version, lookup_version = 12, 3  # versions of the op definitions

    def fully_connected(self, graph: Graph, operator: Any) -> list[Any]:
        """The same op, reading integers."""
        self.store(graph, operator.inputs[1])
        graph.require_version(operator, self.fully_connected_version)
        operator.builtinOptions.asymmetricQuantizeInputs = True
        return [operator]

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """EMBEDDING_LOOKUP, which multiplies with the scales."""
        (table, ids), (out,) = operator.inputs, operator.outputs
        self.store(graph, table)
        return [graph.operator(Op.EMBEDDING_LOOKUP, self.lookup_version, [ids, table], out)]

    def add_matrix(self, graph: Graph, matrix: NDArray[np.float32]) -> StoredMatrix:
        """One byte a weight; the scales are quantization parameters of the tensor."""
        quantized = quantize_int8_per_row(matrix)
        scales = quantized.scales[:, 0]
        return StoredMatrix(
            graph.add_buffer(quantized.codes),
            SharedQuantization(scale=scales, zeroPoint=np.zeros(len(scales), np.int64)),
        )


class Int4Blockwise(Int8PerRow):
    """4 bits, and a scale per 32 weights of a row."""

    type = Type.INT4
    fully_connected_version, lookup_version = 14, 4

    def refer(self, graph: Graph, tensor: Any, stored: StoredMatrix) -> None:
        """The scales are a tensor of the same subgraph."""
        super().refer(graph, tensor, stored)
        rows, columns = tensor.shape
        scales = graph.tensor("scales", [rows, columns // BLOCK], Type.FLOAT16, stored.scales)
        tensor.quantization = SharedQuantization.blockwise(scales, BLOCK)

    def add_matrix(self, graph: Graph, matrix: NDArray[np.float32]) -> StoredMatrix:
        """Two weights a byte."""
        quantized = quantize_int4_blockwise(matrix)
        codes = graph.add_buffer(pack_int4(quantized.codes))
        return StoredMatrix(codes, scales=graph.add_buffer(quantized.scales))
