"""Rewriting a float32 `.tflite` so that its weights take fewer bits.

TensorFlow's own converter stores a tied embedding twice, and a looked-up table with one scale for
all its rows; ai-edge-quantizer leaves lookups in float. So the converter makes a float32 model, and
the matrices of its FULLY_CONNECTED and GATHER ops are replaced here, each once for all the
signatures and ops that read it. A GATHER becomes an EMBEDDING_LOOKUP, which reads quantized tables.
"""

from typing import Any

from edgewise_cloud.convert.flatbuffer import Graph, Op, packed, parsed
from edgewise_cloud.convert.quantization import Quantization, Target
from edgewise_cloud.convert.tflite_runtime_formats import Float16Widened, Int8ScaledOutput
from edgewise_cloud.convert.weight_formats import Float16, Int4Blockwise, Int8PerRow, WeightFormat

WEIGHT_FORMATS: dict[tuple[Quantization, Target], type[WeightFormat]] = {
    (Quantization.FLOAT16, Target.LITERT): Float16,
    (Quantization.INT8, Target.LITERT): Int8PerRow,
    (Quantization.INT4, Target.LITERT): Int4Blockwise,
    (Quantization.FLOAT16, Target.TFLITE_RUNTIME): Float16Widened,
    (Quantization.INT8, Target.TFLITE_RUNTIME): Int8ScaledOutput,
}


def quantize_weights(model: bytes, quantization: Quantization, target: Target) -> bytes:
    """The float32 `.tflite` file with its matrices quantized for the runtime `target`.

    With Quantization.NONE, only equal constants are merged.
    """
    tflite = parsed(packed(parsed(model)))  # packing makes equal constants one buffer
    if quantization is not Quantization.NONE:
        weight_format = WEIGHT_FORMATS[quantization, target]()
        for subgraph in tflite.subgraphs:
            graph = Graph(tflite, subgraph)
            subgraph.operators = [
                replacement
                for operator in subgraph.operators
                for replacement in _rewritten(weight_format, graph, operator)
            ]
    return packed(tflite)


def _rewritten(weight_format: WeightFormat, graph: Graph, operator: Any) -> list[Any]:
    kind = graph.kind(operator)
    if kind == Op.FULLY_CONNECTED and weight_format.can_store(graph, operator.inputs[1]):
        return weight_format.fully_connected(graph, operator)
    if kind == Op.GATHER and weight_format.can_store(graph, operator.inputs[0]):
        return weight_format.lookup(graph, operator)
    return [operator]
