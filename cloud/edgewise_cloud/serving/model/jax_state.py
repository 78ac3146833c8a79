"""Weights and caches as JAX arrays; each program takes the caches and returns updated ones."""

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.state import Compiled, NamedWeights, Program
from edgewise_cloud.serving.model.transformer import Transformer


class JaxState:
    """A State; see state.py."""

    def __init__(self, weights: NamedWeights, transformer: Transformer) -> None:
        self._weights = {name: jax.numpy.asarray(value) for name, value in weights}
        self._empty = partial(transformer.empty_caches, jax.numpy.asarray)
        self._caches = self._empty()

    def compile(self, program: Program) -> Compiled:
        """A jitted function, compiled once for each set of argument shapes."""
        compiled = jax.jit(program, donate_argnums=1)

        def run(*arguments: Any) -> NDArray[np.float32]:
            output, self._caches = compiled(self._weights, self._caches, *arguments)
            return np.asarray(output)

        return run

    def reset(self) -> None:
        """See State."""
        self._caches = self._empty()
