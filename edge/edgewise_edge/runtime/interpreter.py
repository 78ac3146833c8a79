"""The backend for the plain Interpreter API: tflite-runtime 2.14, or LiteRT's own.

The interpreter owns the memory of its tensors, so every step copies the caches into it.
"""

from typing import Any

from edgewise_edge.runtime.backend import Shape, SignatureShapes, Step, Tensors
from edgewise_edge.runtime.signatures import is_fused


class InterpreterBackend:
    """A model in a `tflite_runtime.interpreter.Interpreter`, or one with the same interface."""

    name = "the TFLite interpreter"

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter  # owns the memory that the runners use
        self._runners = {
            name: interpreter.get_signature_runner(name)
            for name in interpreter.get_signature_list()
            if not is_fused(name)  # it has no kernel for them
        }
        self.signatures = {
            name: SignatureShapes(
                _shapes(runner.get_input_details()), _shapes(runner.get_output_details())
            )
            for name, runner in self._runners.items()
        }

    def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
        """A step that copies the inputs in, runs the signature and copies the outputs out."""
        runner = self._runners[signature]

        def step() -> None:
            for name, result in runner(**inputs).items():
                outputs[name][:] = result

        return step


def _shapes(details: dict[str, Any]) -> dict[str, Shape]:
    shapes = {}
    for name, detail in details.items():
        dynamic = detail["shape_signature"]  # empty for a scalar
        shapes[name] = tuple(map(int, dynamic if len(dynamic) else detail["shape"]))
    return shapes
