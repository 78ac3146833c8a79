"""Greedy generation by ONNX Runtime, over a graph of make_onnx.py."""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

import os
from collections.abc import Callable
from pathlib import Path

# Or ONNX Runtime sends Microsoft what it runs, from a thread of its own.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import numpy.typing as npt
import onnxruntime
from protocol import options, serve

CONTEXT = 1024


class Onnx:
    """A session with its caches bound in place: what it reads as past it writes as present."""

    def __init__(self, model: Path, threads: int) -> None:
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        # The graph is fused by hand; what would be fused further gets slower.
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session = onnxruntime.InferenceSession(
            model, settings, providers=["CPUExecutionProvider"]
        )
        self.binding = self.session.io_binding()
        self.outputs = {
            each.name: np.zeros(
                [CONTEXT if size == "cache" else size for size in each.shape], np.float32
            )
            for each in self.session.get_outputs()
        }
        for name, values in self.outputs.items():
            shared = onnxruntime.OrtValue.ortvalue_from_numpy(values)
            self.binding.bind_ortvalue_output(name, shared)
            if name != "logits":
                self.binding.bind_ortvalue_input(name.replace("present", "past"), shared)

    def generate(self, prompt: list[int], new_tokens: int, known: Callable[[int], None]) -> None:
        """Write `new_tokens` tokens; see protocol.Generate."""
        tokens, past = prompt, 0
        for _ in range(new_tokens):
            token = int(self.logits(tokens, past).argmax())
            past += len(tokens)
            tokens = [token]
            known(token)

    def logits(self, tokens: list[int], past: int) -> npt.NDArray[np.float32]:
        """Append tokens after `past` ones; the logits after the last, valid until the next call."""
        total = past + len(tokens)
        inputs = {
            "ids": np.array([tokens], np.int64),
            "positions": np.arange(past, total, dtype=np.int64)[None],
            "seqlens_k": np.array([total - 1], np.int32),
            "total": np.array(total, np.int32),
        }
        for name, value in inputs.items():
            self.binding.bind_cpu_input(name, value)
        self.session.run_with_iobinding(self.binding)
        return self.outputs["logits"]


def main() -> None:
    """Load, then answer."""
    chosen = options()
    serve(Onnx(chosen.model, chosen.threads).generate, STARTED)


if __name__ == "__main__":
    main()
