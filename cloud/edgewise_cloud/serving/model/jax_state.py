"""Weights and caches as JAX arrays; a program is given the caches and hands them back changed."""

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.state import Compiled, Program, Weights
from edgewise_cloud.serving.model.transformer import Transformer


class JaxState:
    """A State; see state.py."""

    def __init__(self, weights: Weights, transformer: Transformer) -> None:
        self._weights = {name: jax.numpy.asarray(value) for name, value in weights}
        self._empty = partial(transformer.empty_caches, jax.numpy.asarray)
        self._caches = self._empty()

    def compile(self, program: Program) -> Compiled:
        """A jitted function, compiled once for each shape of its numbers."""
        compiled = jax.jit(program, donate_argnums=1)

        def run(*numbers: Any) -> NDArray[np.float32]:
            output, self._caches = compiled(self._weights, self._caches, *numbers)
            return np.asarray(output)

        return run

    def reset(self) -> None:
        """See State."""
        self._caches = self._empty()
