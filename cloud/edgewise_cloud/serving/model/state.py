"""The interface to a backend's memory: weights and caches, and programs compiled over them."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Caches, Tensor

NamedWeights = Iterable[tuple[str, NDArray[Any]]]
Program = Callable[..., tuple[Tensor, Caches]]  # (weights, caches, *arguments) -> (output, caches)
Compiled = Callable[..., NDArray[np.float32]]  # (*arguments) -> output; updates the state's caches


class State(Protocol):
    """Weights and caches in a backend's own memory."""

    def compile(self, program: Program) -> Compiled:
        """`program` over this state; it is compiled at its first call."""

    def reset(self) -> None:
        """Empty the caches, whatever a failed program left in them."""
