"""Choosing the library that runs a `.tflite`, and loading the model with it."""

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime.backend import Backend


def import_library() -> None:
    """Import what open_model() needs, so that the import can overlap with other work."""
    if importlib.util.find_spec("ai_edge_litert"):
        importlib.import_module("edgewise_edge.runtime.litert")


def open_model(path: Path, threads: int, weight_cache: Path | None) -> Backend:
    """Load a `.tflite` with LiteRT where it is installed, else with tflite-runtime.

    `weight_cache` is the file of LiteRT's prepared weights; LiteRT writes it if it is missing.
    Raises ModelIncompatibleError, or the library's RuntimeError or ValueError.
    """
    if importlib.util.find_spec("ai_edge_litert"):
        from edgewise_edge.runtime.litert import CompiledBackend, shares_memory

        if shares_memory():
            return CompiledBackend(path, threads, weight_cache)
        from ai_edge_litert.interpreter import Interpreter

        return _interpreted(Interpreter, path, threads)
    if importlib.util.find_spec("tflite_runtime"):
        from tflite_runtime.interpreter import Interpreter

        try:
            return _interpreted(Interpreter, path, threads)
        except ValueError as error:
            raise ModelIncompatibleError(
                f"{path} does not run on tflite-runtime ({error}); convert it with --target "
                "tflite-runtime"
            ) from error
    raise ModelIncompatibleError(
        "neither ai-edge-litert nor tflite-runtime is installed; install one to run the model: "
        "pip install ai-edge-litert"
    )


def _interpreted(interpreter: Any, path: Path, threads: int) -> Backend:
    from edgewise_edge.runtime.interpreter import InterpreterBackend

    return InterpreterBackend(interpreter(str(path), num_threads=threads))
