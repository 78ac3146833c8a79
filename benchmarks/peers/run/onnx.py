"""ONNX Runtime, over a graph of make/onnx.py."""

import os
from collections.abc import Iterator
from pathlib import Path

# Otherwise ONNX Runtime sends Microsoft what it runs, from a thread of its own.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime

from benchmarks.peers.run import Generate

CONTEXT = 1024


def load(model: Path, threads: int) -> Generate:
    """A session with its caches bound in place: what it reads as past it writes as present."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    # The graph is fused by hand; fusing it further makes it slower.
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    outputs = {}
    for each in session.get_outputs():
        shape = [CONTEXT if size == "cache" else size for size in each.shape]
        outputs[each.name] = np.zeros(shape, np.float32)
        shared = onnxruntime.OrtValue.ortvalue_from_numpy(outputs[each.name])
        binding.bind_ortvalue_output(each.name, shared)
        if each.name != "logits":
            binding.bind_ortvalue_input(each.name.replace("present", "past"), shared)

    def next_token(tokens: list[int], past: int) -> int:
        """Append tokens after `past` ones; the likeliest one after the last."""
        total = past + len(tokens)
        binding.bind_cpu_input("ids", np.array([tokens], np.int64))
        binding.bind_cpu_input("positions", np.arange(past, total, dtype=np.int64)[None])
        binding.bind_cpu_input("seqlens_k", np.array([total - 1], np.int32))
        binding.bind_cpu_input("total", np.array(total, np.int32))
        session.run_with_iobinding(binding)
        return int(outputs["logits"].argmax())

    def generate(prompt: list[int], new_tokens: int) -> Iterator[int]:
        tokens = prompt
        for past in [0, *range(len(prompt), len(prompt) + new_tokens - 1)]:
            tokens = [next_token(tokens, past)]
            yield tokens[0]

    return generate
