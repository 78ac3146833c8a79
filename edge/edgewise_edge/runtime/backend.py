"""The seam between our runtime and the library that runs a `.tflite`: LiteRT, or tflite-runtime."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

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
