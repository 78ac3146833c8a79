"""The interface to a backend's memory: weights and caches, and programs compiled over them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Caches, Tensor

NamedWeights = Iterable[tuple[str, NDArray[Any]]]
Program = Callable[..., tuple[Tensor, Caches]]  # (weights, caches, *arguments) -> (output, caches)
Compiled = Callable[..., NDArray[np.float32]]  # (*arguments) -> output; updates the state's caches
Arguments = Sequence["NDArray[Any] | np.int32"]  # of a program, after weights and caches


class State(Protocol):
    """Weights and caches in a backend's own memory."""

    def compile(self, name: str, program: Program, examples: Arguments) -> Compiled:
        """`program`, compiled over this state for arguments like `examples`.

        It leaves the caches alone, so other programs may run in another thread meanwhile. `name`
        tells the programs of one state apart.
        """

    def reset(self) -> None:
        """Empty the caches, whatever a failed program left in them."""
