"""What the runtime needs from the library that runs a `.tflite`: LiteRT or tflite-runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

Shape = tuple[int, ...]
Tensors = Mapping[str, NDArray[Any]]  # by tensor name
Step = Callable[[], None]  # raises what the library does when it fails


@dataclass(frozen=True, slots=True)
class SignatureShapes:
    """Names and shapes of a signature's inputs and outputs. Dynamic dimensions are 1 or -1."""

    inputs: dict[str, Shape]
    outputs: dict[str, Shape]


class Backend(Protocol):
    """A loaded model. Its methods raise what the library does when it fails, such as RuntimeError."""

    name: str
    signatures: dict[str, SignatureShapes]

    def bind(self, signature: str, inputs: Tensors, outputs: Tensors) -> Step:
        """A callable that runs `signature` on these arrays, at their shapes.

        The arrays are contiguous and aligned to ALIGNMENT bytes (arrays.py). Each call reads what
        they hold at that moment.
        """
        ...
