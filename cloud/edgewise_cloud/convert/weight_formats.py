"""Storing the weights of a float32 `.tflite` in fewer bits.

TensorFlow's own converter stores a tied embedding twice and a looked-up table with one scale for
all its rows; ai-edge-quantizer leaves lookups in float. So the converter makes a float32 model, and
the matrices of its FULLY_CONNECTED and GATHER ops are replaced here, each once for all the
signatures and ops that read it. A GATHER becomes an EMBEDDING_LOOKUP, which knows stored forms.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.convert.flatbuffer import Graph, Op, SharedQuantization, Type, packed, parsed
from edgewise_cloud.convert.quantization import (
    BLOCK,
    Quantization,
    Target,
    int4_blocks,
    int8_rows,
    packed_nibbles,
)


def stored(model: bytes, quantization: Quantization, target: Target) -> bytes:
    """The float32 `model` with its matrices stored as asked, for the runtime it is meant for."""
    whole = parsed(packed(parsed(model)))  # from here on, equal constants are one buffer
    if quantization is not Quantization.NONE:
        form = FORMS[quantization, target]()
        for subgraph in whole.subgraphs:
            graph = Graph(whole, subgraph)
            subgraph.operators = [
                written
                for operator in subgraph.operators
                for written in _rewritten(form, graph, operator)
            ]
    return packed(whole)


def _rewritten(form: "Form", graph: Graph, operator: Any) -> list[Any]:
    kind = graph.kind(operator)
    if kind == Op.FULLY_CONNECTED and form.can_store(graph, operator.inputs[1]):
        return form.product(graph, operator)
    if kind == Op.GATHER and form.can_store(graph, operator.inputs[0]):
        return form.lookup(graph, operator)
    return [operator]


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a matrix became: the buffer of its numbers, and what else it takes to read them."""

    buffer: int
    quantization: SharedQuantization | None = None
    scales: int = 0  # the buffer of scales that are a tensor of their own


class Form(ABC):
    """One way to store matrices."""

    type: int  # of a stored matrix

    def __init__(self) -> None:
        self._by_floats: dict[int, _Stored] = {}  # by the buffer that held the floats
        self._by_buffer: dict[int, _Stored] = {}  # by the buffer that holds it now

    def can_store(self, graph: Graph, index: int) -> bool:
        """Whether the tensor is a constant matrix of floats, or was until it was stored."""
        tensor = graph.tensors[index]
        return tensor.buffer in self._by_buffer or bool(
            tensor.type == Type.FLOAT32 and len(tensor.shape) == 2 and graph.constant(tensor.buffer)
        )

    @abstractmethod
    def product(self, graph: Graph, operator: Any) -> list[Any]:
        """The ops that replace a FULLY_CONNECTED."""

    @abstractmethod
    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """The ops that replace a GATHER of rows."""

    @abstractmethod
    def _write(self, graph: Graph, matrix: NDArray[np.float32]) -> _Stored:
        """Add a matrix to the model in its new form."""

    def _refer(self, graph: Graph, tensor: Any, stored: _Stored) -> None:  # noqa: ARG002
        """Make `tensor`, which holds floats, the stored matrix; some need the graph for it."""
        tensor.type, tensor.buffer = self.type, stored.buffer
        tensor.quantization = stored.quantization

    def _store(self, graph: Graph, index: int) -> _Stored:
        """Store the matrix that the tensor holds, unless that was done."""
        tensor = graph.tensors[index]
        if tensor.buffer in self._by_buffer:
            return self._by_buffer[tensor.buffer]
        if tensor.buffer not in self._by_floats:
            written = self._write(graph, graph.floats(tensor))
            self._by_floats[tensor.buffer] = self._by_buffer[written.buffer] = written
        stored = self._by_floats[tensor.buffer]
        self._refer(graph, tensor, stored)
        return stored


class Float16(Form):
    """Widened to float32 when the model is loaded (products) or row by row (lookups)."""

    type = Type.FLOAT16

    def product(self, graph: Graph, operator: Any) -> list[Any]:
        """DEQUANTIZE, and the product as it was."""
        x, weights, *bias = operator.inputs
        widen, wide = self._widened(graph, weights)
        operator.inputs = np.array([x, wide, *bias], np.int32)
        return [widen, operator]

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """EMBEDDING_LOOKUP, and DEQUANTIZE of the rows."""
        (table, ids), (out,) = operator.inputs, operator.outputs
        self._store(graph, table)
        rows = graph.computed("rows", graph.tensors[out].shape, Type.FLOAT16)
        return [
            graph.operator(Op.EMBEDDING_LOOKUP, 1, [ids, table], rows),
            graph.operator(Op.DEQUANTIZE, 3, [rows], out),
        ]

    def _widened(self, graph: Graph, index: int) -> tuple[Any, int]:
        """An op that widens a stored matrix, and the tensor it writes."""
        self._store(graph, index)
        wide = graph.computed("wide", graph.tensors[index].shape, Type.FLOAT32)
        return graph.operator(Op.DEQUANTIZE, 3, [index], wide), wide

    def _write(self, graph: Graph, matrix: NDArray[np.float32]) -> _Stored:
        with np.errstate(over="ignore"):  # the conversion's check finds what became infinite
            return _Stored(graph.add_buffer(matrix.astype(np.float16)))


class Float16Plain(Float16):
    """For tflite-runtime 2.14, whose lookups know no float16: tables are widened whole."""

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """DEQUANTIZE of the table, and the lookup as it was."""
        table, ids = operator.inputs
        widen, wide = self._widened(graph, table)
        operator.inputs = np.array([wide, ids], np.int32)
        return [widen, operator]


class Int8Rows(Form):
    """8 bits and a scale for each row, which LiteRT's own kernels multiply with."""

    type = Type.INT8
    product_version, lookup_version = 12, 3  # of the ops' definitions

    def product(self, graph: Graph, operator: Any) -> list[Any]:
        """The same op, reading integers."""
        self._store(graph, operator.inputs[1])
        graph.require_version(operator, self.product_version)
        operator.builtinOptions.asymmetricQuantizeInputs = True
        return [operator]

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """EMBEDDING_LOOKUP, which multiplies with the scales."""
        (table, ids), (out,) = operator.inputs, operator.outputs
        self._store(graph, table)
        return [graph.operator(Op.EMBEDDING_LOOKUP, self.lookup_version, [ids, table], out)]

    def _write(self, graph: Graph, matrix: NDArray[np.float32]) -> _Stored:
        quantised = int8_rows(matrix)
        scales = quantised.scales[:, 0]
        return _Stored(
            graph.add_buffer(quantised.codes),
            SharedQuantization(scale=scales, zeroPoint=np.zeros(len(scales), np.int64)),
        )


class Int4Blocks(Int8Rows):
    """4 bits, and a scale for each 32 weights of a row."""

    type = Type.INT4
    product_version, lookup_version = 14, 4

    def _refer(self, graph: Graph, tensor: Any, stored: _Stored) -> None:
        super()._refer(graph, tensor, stored)
        rows, columns = tensor.shape
        scales = graph.tensor("scales", [rows, columns // BLOCK], Type.FLOAT16, stored.scales)
        tensor.quantization = SharedQuantization.blockwise(scales, BLOCK)

    def _write(self, graph: Graph, matrix: NDArray[np.float32]) -> _Stored:
        quantised = int4_blocks(matrix)
        codes = graph.add_buffer(packed_nibbles(quantised.codes))
        return _Stored(codes, scales=graph.add_buffer(quantised.scales))


class Int8Plain(Form):
    """8 bits for tflite-runtime 2.14, whose products know one scale for a matrix.

    That scale is 1 here, and what comes out is multiplied with a scale for each row.
    """

    type = Type.INT8

    def product(self, graph: Graph, operator: Any) -> list[Any]:
        """FULLY_CONNECTED, MUL by the scales, ADD of the bias."""
        x, weights, *bias = operator.inputs
        (out,) = operator.outputs
        stored, shape = self._store(graph, weights), graph.tensors[out].shape
        scales = graph.tensor("scales", [shape[-1]], Type.FLOAT32, stored.scales)
        unscaled = graph.computed("unscaled", shape, Type.FLOAT32)
        operator.inputs = np.array([x, weights, -1], np.int32)
        operator.outputs = np.array([unscaled], np.int32)
        operator.builtinOptions.asymmetricQuantizeInputs = True
        graph.require_version(operator, 9)
        if not bias or bias[0] < 0:
            return [operator, graph.operator(Op.MUL, 1, [unscaled, scales], out)]
        unbiased = graph.computed("unbiased", shape, Type.FLOAT32)
        return [
            operator,
            graph.operator(Op.MUL, 1, [unscaled, scales], unbiased),
            graph.operator(Op.ADD, 1, [unbiased, bias[0]], out),
        ]

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """EMBEDDING_LOOKUP of the integers and of their scales, and MUL."""
        (table, ids), (out,) = operator.inputs, operator.outputs
        stored, shape = self._store(graph, table), graph.tensors[out].shape
        rows = graph.tensors[table].shape[0]
        scales = graph.tensor("scales", [rows, 1], Type.FLOAT32, stored.scales)
        codes = graph.computed("codes", shape, Type.FLOAT32)
        scale = graph.computed("scale", [shape[0], 1], Type.FLOAT32)
        return [
            graph.operator(Op.EMBEDDING_LOOKUP, 3, [ids, table], codes),
            graph.operator(Op.EMBEDDING_LOOKUP, 1, [ids, scales], scale),
            graph.operator(Op.MUL, 1, [codes, scale], out),
        ]

    def _write(self, graph: Graph, matrix: NDArray[np.float32]) -> _Stored:
        quantised = int8_rows(matrix)
        one = SharedQuantization(scale=np.ones(1, np.float32), zeroPoint=np.zeros(1, np.int64))
        codes = graph.add_buffer(quantised.codes)
        return _Stored(codes, one, scales=graph.add_buffer(quantised.scales))


FORMS: dict[tuple[Quantization, Target], type[Form]] = {
    (Quantization.FLOAT16, Target.LITERT): Float16,
    (Quantization.INT8, Target.LITERT): Int8Rows,
    (Quantization.INT4, Target.LITERT): Int4Blocks,
    (Quantization.FLOAT16, Target.TFLITE_RUNTIME): Float16Plain,
    (Quantization.INT8, Target.TFLITE_RUNTIME): Int8Plain,
}
