"""The interface to a backend's memory: weights and caches, and programs compiled over them."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.transformer import Caches, Tensor

Weights = Iterable[tuple[str, NDArray[Any]]]
Program = Callable[..., tuple[Tensor, Caches]]  # (weights, caches, *numbers) -> (output, caches)
Compiled = Callable[..., NDArray[np.float32]]  # (*numbers) -> output; changes the caches it holds


class State(Protocol):
    """Weights and caches in a backend's own memory."""

    def compile(self, program: Program) -> Compiled:
        """Compile `program` over this state; it is compiled when it is first called."""

    def reset(self) -> None:
        """Empty the caches, in whatever state a failed program left them."""
