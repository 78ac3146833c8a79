"""Choosing the library that runs a `.tflite`, and loading the model with it."""

import importlib
import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

from edgewise_edge.checks import shown
from edgewise_edge.errors import ModelCorruptError, ModelIncompatibleError
from edgewise_edge.runtime.backend import Backend

_FLATBUFFER_IDENTIFIER = slice(4, 8)
_ELEMENTS_PER_BYTE = 4  # weights of two bits
_MOST_ELEMENTS = 2**24  # of a tensor in a small file
_LIBRARIES = {  # package, and the module of ours or theirs that imports what we need of it
    "ai_edge_litert": "edgewise_edge.runtime.litert",
    "tflite_runtime": "tflite_runtime.interpreter",
}


def import_library() -> ModuleType:
    """What loads models: LiteRT where it is installed and can be imported, else tflite-runtime.

    Raises ModelIncompatibleError if there is neither, or the system is too old for it, say.
    """
    failures = []
    for package, module in _LIBRARIES.items():
        try:
            if importlib.util.find_spec(package):
                return importlib.import_module(module)
        except Exception as error:  # noqa: BLE001  # libraries that do not fit raise anything
            failures.append(f"{package} cannot be imported ({type(error).__name__}: {error})")
    if failures:
        raise ModelIncompatibleError(
            f"{'; '.join(failures)}; install a version of ai-edge-litert or tflite-runtime for this "
            "system to run the model here"
        )
    raise ModelIncompatibleError(
        "neither ai-edge-litert nor tflite-runtime is installed; install one to run the model: "
        "pip install ai-edge-litert"
    )


def open_model(path: Path, threads: int, weight_cache: Path | None) -> Backend:
    """Load a `.tflite` with LiteRT where it is installed, else with tflite-runtime.

    `weight_cache` is the file of LiteRT's prepared weights; LiteRT writes it if it is missing.
    Raises ModelIncompatibleError, or whatever the library does.
    """
    library = import_library()
    if library.__name__ == _LIBRARIES["ai_edge_litert"]:
        if not library.shares_memory():
            return _interpreted(path, threads)
        with library.attention_ops(threads) as custom_ops:
            backend: Backend = library.CompiledBackend(path, threads, weight_cache, custom_ops)
        return backend
    try:
        return _interpreted(path, threads)
    except ValueError as error:
        raise ModelIncompatibleError(
            f"{path} does not run on tflite-runtime ({error}); convert it with --target "
            "tflite-runtime"
        ) from error


def require_tflite(path: Path) -> None:
    """Raise ModelIncompatibleError for another kind of file, ModelCorruptError if it is unreadable."""
    try:
        with path.open("rb") as file:
            identifier = file.read(8)[_FLATBUFFER_IDENTIFIER]
    except OSError as error:
        raise ModelCorruptError(f"{path} cannot be read: {error.strerror}") from error
    if identifier != b"TFL3":
        raise ModelIncompatibleError(f"{path} is not a TFLite model")


def verify_structure(path: Path) -> None:
    """Raise ModelIncompatibleError if the plain interpreter refuses the `.tflite`, or a size is absurd.

    Takes some milliseconds. The interpreter checks what LiteRT's CompiledModel takes for granted: of
    467 damaged models that crashed that, it refused 457. tflite-runtime has nothing else, and checks
    when it loads.
    """
    require_tflite(path)
    if import_library().__name__ != _LIBRARIES["ai_edge_litert"]:
        return
    try:
        _require_possible_sizes(_interpreter()(str(path)), path.stat().st_size)
    except (RuntimeError, ValueError) as error:
        raise ModelIncompatibleError(
            f"{path} is damaged: {str(error).rstrip('.')}; fetch or convert the model again"
        ) from error


def _require_possible_sizes(interpreter: Any, file_size: int) -> None:
    """Raise ValueError for a tensor larger than the largest weights that the file may hold.

    It might run for minutes. Dimensions that are free count as 1.
    """
    most = max(_MOST_ELEMENTS, _ELEMENTS_PER_BYTE * file_size)
    for graph in range(interpreter.num_subgraphs()):
        for tensor in interpreter.get_tensor_details(graph):
            if math.prod(tensor["shape"].tolist()) > most:
                raise ValueError(
                    f"its tensor {shown(tensor['name'])} has the size {tensor['shape']}"
                )


def _interpreted(path: Path, threads: int) -> Backend:
    from edgewise_edge.runtime.interpreter import InterpreterBackend

    return InterpreterBackend(_interpreter()(str(path), num_threads=threads))


def _interpreter() -> Any:
    """The class Interpreter of the library that is used."""
    if import_library().__name__ == _LIBRARIES["ai_edge_litert"]:
        from ai_edge_litert.interpreter import Interpreter
    else:
        from tflite_runtime.interpreter import Interpreter
    return Interpreter
