"""Running a model with the plain Interpreter API: tflite-runtime 2.14, or LiteRT's own.

It owns the memory of its tensors, so the caches are copied into it for every step.
"""

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from edgewise_edge.backend import Ends


class InterpreterBackend:
    """A model in a `tflite_runtime.interpreter.Interpreter`, or one of the same interface."""

    name = "the TFLite interpreter"

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter  # it owns what the runners use
        self._runners = {
            name: interpreter.get_signature_runner(name)
            for name in interpreter.get_signature_list()
        }
        self.signatures = {
            name: Ends(_sizes(runner.get_input_details()), _sizes(runner.get_output_details()))
            for name, runner in self._runners.items()
        }

    def share(self, memory: NDArray[Any]) -> NDArray[Any]:
        """The memory itself."""
        return memory

    def run(
        self,
        signature: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[Any]],
    ) -> None:
        """Copy the inputs in, run one signature, copy its outputs out."""
        ends = self.signatures[signature]
        results = self._runners[signature](**{name: inputs[name] for name in ends.inputs})
        for name, result in results.items():
            outputs[name][:] = result


def _sizes(details: dict[str, Any]) -> dict[str, int]:
    return {name: math.prod(detail["shape"]) for name, detail in details.items()}
