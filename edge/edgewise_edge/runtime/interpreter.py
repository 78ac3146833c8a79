"""Running a model with the plain Interpreter API: tflite-runtime 2.14, or LiteRT's own.

It owns the memory of its tensors, so the caches are copied into it for every step.
"""

from typing import Any

from edgewise_edge.runtime.backend import Ends, Memory, Shape, Step


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
            name: Ends(_shapes(runner.get_input_details()), _shapes(runner.get_output_details()))
            for name, runner in self._runners.items()
        }

    def bind(self, signature: str, inputs: Memory, outputs: Memory) -> Step:
        """Copy the inputs in, run the signature, copy its outputs out."""
        runner = self._runners[signature]

        def step() -> None:
            for name, result in runner(**inputs).items():
                outputs[name][:] = result

        return step


def _shapes(details: dict[str, Any]) -> dict[str, Shape]:
    return {
        name: tuple(
            map(
                int,
                detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"],
            )
        )
        for name, detail in details.items()
    }
