"""The seam between our runtime and the library that runs a `.tflite`: LiteRT, or tflite-runtime."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from edgewise_edge.errors import ModelIncompatibleError


@dataclass(frozen=True, slots=True)
class Ends:
    """What a signature takes and returns: names, and how many numbers each holds."""

    inputs: dict[str, int]
    outputs: dict[str, int]


class Backend(Protocol):
    """A loaded model. Its methods raise RuntimeError or ValueError when the library fails."""

    name: str
    signatures: dict[str, Ends]

    def share(self, memory: NDArray[Any]) -> Any:
        """A handle for memory from aligned(), which run() then reads or writes."""
        ...

    def run(self, signature: str, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Run one signature; handles by name, one for each of its ends."""
        ...


def open_model(path: Path, threads: int) -> Backend:
    """Load a `.tflite` with LiteRT where it is installed, else with tflite-runtime."""
    if importlib.util.find_spec("ai_edge_litert"):
        from edgewise_edge.litert import CompiledBackend

        return CompiledBackend(path, threads)
    if importlib.util.find_spec("tflite_runtime"):
        from tflite_runtime.interpreter import Interpreter

        from edgewise_edge.interpreter import InterpreterBackend

        try:
            return InterpreterBackend(Interpreter(str(path), num_threads=threads))
        except ValueError as error:
            raise ModelIncompatibleError(
                f"{path} was not made for tflite-runtime ({error}); convert it with --target "
                "tflite-runtime"
            ) from error
    raise ModelIncompatibleError(
        "neither ai-edge-litert nor tflite-runtime is installed, and one of them runs the model: "
        "pip install ai-edge-litert"
    )
