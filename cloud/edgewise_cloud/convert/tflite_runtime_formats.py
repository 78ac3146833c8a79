"""The weight formats of tflite-runtime 2.14, whose kernels read fewer of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.convert.flatbuffer import Graph, Op, SharedQuantization, Type
from edgewise_cloud.convert.quantization import quantize_int8_per_row
from edgewise_cloud.convert.weight_formats import Float16, StoredMatrix, WeightFormat


class Float16Widened(Float16):
    """Float16 tables are widened whole: this runtime's EMBEDDING_LOOKUP does not read float16."""

    def lookup(self, graph: Graph, operator: Any) -> list[Any]:
        """DEQUANTIZE of the table, and the same GATHER."""
        table, ids = operator.inputs
        widen, wide = self.widened(graph, table)
        operator.inputs = np.array([wide, ids], np.int32)
        return [widen, operator]


class Int8ScaledOutput(WeightFormat):
    """8 bits with a scale of 1, and the output multiplied by a scale per row.

    This runtime's FULLY_CONNECTED takes only one scale for a whole matrix.
    """

    type = Type.INT8

    def fully_connected(self, graph: Graph, operator: Any) -> list[Any]:
        """FULLY_CONNECTED, MUL by the scales, ADD of the bias."""
        x, weights, *bias = operator.inputs
        (out,) = operator.outputs
        stored, shape = self.store(graph, weights), graph.tensors[out].shape
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
        stored, shape = self.store(graph, table), graph.tensors[out].shape
        rows = graph.tensors[table].shape[0]
        scales = graph.tensor("scales", [rows, 1], Type.FLOAT32, stored.scales)
        codes = graph.computed("codes", shape, Type.FLOAT32)
        scale = graph.computed("scale", [shape[0], 1], Type.FLOAT32)
        return [
            graph.operator(Op.EMBEDDING_LOOKUP, 3, [ids, table], codes),
            graph.operator(Op.EMBEDDING_LOOKUP, 1, [ids, scales], scale),
            graph.operator(Op.MUL, 1, [codes, scale], out),
        ]

    def add_matrix(self, graph: Graph, matrix: NDArray[np.float32]) -> StoredMatrix:
        """One byte a weight; the scales are a buffer of their own."""
        quantized = quantize_int8_per_row(matrix)
        one = SharedQuantization(scale=np.ones(1, np.float32), zeroPoint=np.zeros(1, np.int64))
        codes = graph.add_buffer(quantized.codes)
        return StoredMatrix(codes, one, scales=graph.add_buffer(quantized.scales))
