"""Running a model with LiteRT's CompiledModel, which reads and writes our memory in place."""

import ctypes
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options
from ai_edge_litert.environment import Environment
from ai_edge_litert.tensor_buffer import TensorBuffer
from numpy.typing import NDArray

from edgewise_edge.backend import Ends


@functools.cache
def _environment() -> Environment:
    """LiteRT's process-wide state, made once and never torn down (which LiteRT would log)."""
    environment = Environment.create()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    return environment


class CompiledBackend:
    """The `.tflite` at `path`, mapped into memory and compiled for `threads` CPU threads."""

    name = "LiteRT"

    def __init__(self, path: Path, threads: int) -> None:
        options = Options(cpu_options=CpuOptions(num_threads=threads))
        self._model = CompiledModel.from_file(
            str(path), environment=_environment(), options=options
        )
        self.signatures = {
            name: Ends(
                _sizes(self._model.get_input_tensor_details(name), ends["inputs"]),
                _sizes(self._model.get_output_tensor_details(name), ends["outputs"]),
            )
            for name, ends in self._model.get_signature_list().items()
        }

    def share(self, memory: NDArray[Any]) -> TensorBuffer:
        """LiteRT's name for our memory; nothing is copied."""
        return TensorBuffer.create_from_host_memory(memory)

    def run(
        self,
        signature: str,
        inputs: Mapping[str, TensorBuffer],
        outputs: Mapping[str, TensorBuffer],
    ) -> None:
        """Run one signature in the memory given."""
        ends = self.signatures[signature]
        self._model.run_by_index(
            self._model.get_signature_index(signature),
            [inputs[name] for name in ends.inputs],
            [outputs[name] for name in ends.outputs],
        )


def _sizes(details: dict[str, Any], names: list[str]) -> dict[str, int]:
    return {name: math.prod(details[name]["shape"]) for name in names}
