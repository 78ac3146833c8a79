"""The seam between our runtime and the library that runs a `.tflite`: LiteRT, or tflite-runtime."""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewise_edge.errors import ModelIncompatibleError

Shape = tuple[int, ...]
Memory = Mapping[str, NDArray[Any]]
Step = Callable[[], None]  # raises RuntimeError or ValueError when the library fails


@dataclass(frozen=True, slots=True)
class Ends:
    """What a signature takes and returns: names and shapes. Free dimensions say 1 or -1."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


class Backend(Protocol):
    """A loaded model. Its methods raise RuntimeError or ValueError when the library fails."""

    name: str
    signatures: dict[str, Ends]

    def bind(self, signature: str, inputs: Memory, outputs: Memory) -> Step:
        """A call that runs `signature` on these arrays, whose shapes are those of this step.

        The arrays, by the names of the signature's ends, are contiguous and lie at multiples of
        ALIGNMENT bytes (arrays.py). What they hold when the step is called is what it reads.
        """
        ...


def import_library() -> None:
    """Import what open_model() needs: something to do while a model is hashed."""
    if importlib.util.find_spec("ai_edge_litert"):
        importlib.import_module("edgewise_edge.litert")


def open_model(path: Path, threads: int, weight_cache: Path | None) -> Backend:
    """Load a `.tflite` with LiteRT where it is installed, else with tflite-runtime.

    `weight_cache` is a file for LiteRT's prepared weights, or where such a file is to be made.
    """
    if importlib.util.find_spec("ai_edge_litert"):
        from edgewise_edge.litert import CompiledBackend, shares_memory

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
                f"{path} was not made for tflite-runtime ({error}); convert it with --target "
                "tflite-runtime"
            ) from error
    raise ModelIncompatibleError(
        "neither ai-edge-litert nor tflite-runtime is installed, and one of them runs the model: "
        "pip install ai-edge-litert"
    )


def _interpreted(interpreter: Any, path: Path, threads: int) -> Backend:
    from edgewise_edge.interpreter import InterpreterBackend

    return InterpreterBackend(interpreter(str(path), num_threads=threads))
