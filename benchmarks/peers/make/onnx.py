"""A quantised ONNX graph for ONNX Runtime, built from the fastest operators found.

GroupQueryAttention's caches, of shape (1, heads, cache, size), may be bound in place. The embedding is
stored once, for look-up and head. Only the last position gets through the end of the last layer.
Weights are in OUT.data, which ONNX Runtime maps. Observed with version 1.32 on an AMD EPYC:

- 8 bits, layers: DynamicQuantizeMatMul (a scale for each output, one for all activations) reads a
  prompt of 512 in 0.5 to 0.6 of the time of MatMulNBits ("8 bit blockwise": 128 weights a scale).
- 4 bits: MatMulNBits in blocks of 32, as in Q4_0. Blocks of 128 save a tenth, and lose precision.
- Add and LayerNormalization take a third of SkipLayerNormalization's time for a prompt. The worker
  must not let ONNX Runtime fuse them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.make import Array, Checkpoint, read

MICROSOFT = "com.microsoft"
BLOCKS = {8: 128, 4: 32}  # weights that share a scale, in MatMulNBits


class Graph:
    """The graph as it grows; a value is its name, and an operator's first output names it."""

    def __init__(self, model: Checkpoint, bits: int, *, blockwise: bool) -> None:
        self.model, self.bits, self.block = model, bits, BLOCKS[bits]
        self.blockwise = blockwise or bits == 4
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.caches: list[str] = []
        self.scales: dict[str, Array] = {}  # of blocks(), (outputs, blocks)

    def built(self) -> onnx.ModelProto:
        """The whole model: ids and positions (1, n) to logits (1, 1, vocabulary)."""
        codes, scales = self.blocks("wte", self.model.tensors["wte.weight"])
        hidden = self.embedded(codes, scales)
        for layer in range(self.model.layers):
            hidden = self.layer(f"h.{layer}", hidden, last=layer == self.model.layers - 1)
        self.matmul_nbits(self.normalised("ln_f", hidden), codes, scales, "logits")
        size = [1, self.model.heads, "cache", self.model.width // self.model.heads]
        value, real = helper.make_tensor_value_info, TensorProto.FLOAT
        inputs = [value(name, TensorProto.INT64, [1, "n"]) for name in ("ids", "positions")]
        inputs += [value("seqlens_k", TensorProto.INT32, [1])]
        inputs += [value("total", TensorProto.INT32, [])]
        inputs += [value(f"past_{cache}", real, size) for cache in self.caches]
        outputs = [value("logits", real, [1, 1, self.model.vocabulary])]
        outputs += [value(f"present_{cache}", real, size) for cache in self.caches]
        graph = helper.make_graph(self.nodes, "gpt2", inputs, outputs, self.constants)
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def embedded(self, codes: str, scales: str) -> str:
        """Token and position embeddings, (1, n, width)."""
        # The same scales once more: one operator wants three dimensions, the other two.
        scales = self.constant("wte.scales.rows", self.scales[scales][..., None])
        settings = {"gather_axis": 0, "quantize_axis": 2, "block_size": self.block}
        inputs, bits = [codes, "ids", scales], self.bits
        blocks = self.contrib("GatherBlockQuantized", inputs, "wte.blocks", bits=bits, **settings)
        rows = self.constant("row", np.array([0, 0, -1], np.int64))
        tokens = self.add("Reshape", [blocks, rows], "wte.rows")
        table = self.constant("wpe", self.model.tensors["wpe.weight"])
        positions = self.add("Gather", [table, "positions"], "wpe.rows")
        return self.add("Add", [tokens, positions], "embedded")

    def layer(self, name: str, hidden: str, *, last: bool) -> str:
        """One transformer layer, for the last position only once the caches are written."""
        heads = self.model.heads
        qkv = self.dense(f"{name}.attn.c_attn", self.normalised(f"{name}.ln_1", hidden))
        caches = [f"{name}.key", f"{name}.value"]
        self.caches += caches
        attended = f"{name}.attended"
        inputs = [qkv, "", "", *(f"past_{cache}" for cache in caches), "seqlens_k", "total"]
        outputs = [attended, *(f"present_{cache}" for cache in caches)]
        settings = {"domain": MICROSOFT, "num_heads": heads, "kv_num_heads": heads}
        self.nodes.append(helper.make_node("GroupQueryAttention", inputs, outputs, **settings))
        if last:
            end = self.constant("end", np.array([-1], np.int64))
            attended = self.add("Gather", [attended, end], "end.attended", axis=1)
            hidden = self.add("Gather", [hidden, end], "end.hidden", axis=1)
        projected = self.dense(f"{name}.attn.c_proj", attended)
        hidden = self.add("Add", [hidden, projected], f"{name}.attn.sum")
        inner = self.dense(f"{name}.mlp.c_fc", self.normalised(f"{name}.ln_2", hidden))
        active = self.contrib("FastGelu", [inner], f"{name}.mlp.gelu")
        return self.add("Add", [hidden, self.dense(f"{name}.mlp.c_proj", active)], f"{name}.sum")

    def normalised(self, name: str, hidden: str) -> str:
        parts = [f"{name}.weight", f"{name}.bias"]
        constants = [self.constant(part, self.model.tensors[part]) for part in parts]
        return self.add("LayerNormalization", [hidden, *constants], name, epsilon=1e-5)

    def dense(self, name: str, values: str) -> str:
        """A dense layer with bias, quantised."""
        weight = self.model.tensors[f"{name}.weight"]
        bias = self.constant(f"{name}.bias", self.model.tensors[f"{name}.bias"])
        if self.blockwise:
            return self.matmul_nbits(values, *self.blocks(name, weight.T), name, "", "", bias)
        scales = np.abs(weight).max(axis=0) / np.float32(127)
        codes = np.rint(weight / scales).astype(np.int8)
        quantised = [self.constant(f"{name}.codes", codes), self.constant(f"{name}.scales", scales)]
        return self.contrib("DynamicQuantizeMatMul", [values, *quantised, "", bias], name)

    def matmul_nbits(self, values: str, codes: str, scales: str, name: str, *optional: str) -> str:
        """Multiply by a matrix of blocks(), activations rounded to int8."""
        outputs, blocks = self.scales[scales].shape
        settings = {"bits": self.bits, "block_size": self.block, "accuracy_level": 4}
        inputs = [values, codes, scales, *optional]
        size = {"K": blocks * self.block, "N": outputs}
        return self.contrib("MatMulNBits", inputs, name, **size, **settings)

    def blocks(self, name: str, matrix: Array) -> tuple[str, str]:
        """Quantise (outputs, inputs) in blocks along the inputs; names of codes and scales."""
        blocks = matrix.reshape(len(matrix), -1, self.block)
        furthest = np.take_along_axis(blocks, np.abs(blocks).argmax(-1, keepdims=True), -1)
        # The weight furthest from zero gets the lowest code, of which the range has one more.
        middle = 2 ** (self.bits - 1)
        scales = furthest / -middle
        codes = np.rint(blocks / np.where(scales, scales, 1)) + middle
        packed = codes.clip(0, 2 * middle - 1).astype(np.uint8)
        if self.bits == 4:
            packed = packed[..., 0::2] | packed[..., 1::2] << 4
        self.scales[f"{name}.scales"] = scales[..., 0]
        codes_name = self.constant(f"{name}.codes", packed)
        return codes_name, self.constant(f"{name}.scales", scales[..., 0])

    def constant(self, name: str, value: npt.NDArray[np.generic]) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str, **settings: float | str) -> str:
        """Add one of ONNX's operators."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **settings))
        return output

    def contrib(self, operator: str, inputs: list[str], output: str, **settings: float) -> str:
        """Add one of ONNX Runtime's own operators."""
        return self.add(operator, inputs, output, domain=MICROSOFT, **settings)


def make(source: Path, out: Path, form: str) -> None:
    """Forms: "8 bit", "8 bit blockwise" (MatMulNBits in the layers too), "4 bit"."""
    graph = Graph(read(source), int(form[0]), blockwise=form.endswith("blockwise")).built()
    weights = out.name + ".data"
    out.with_name(weights).unlink(missing_ok=True)  # otherwise onnx would append to it
    onnx.save(graph, out, save_as_external_data=True, location=weights)
