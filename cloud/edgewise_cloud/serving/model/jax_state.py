"""Weights and caches as JAX arrays; each program takes the caches and returns updated ones."""

from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.state import Arguments, Compiled, NamedWeights, Program
from edgewise_cloud.serving.model.transformer import Transformer


class JaxState:
    """A State; see state.py."""

    def __init__(self, weights: NamedWeights, transformer: Transformer) -> None:
        self._weights = {name: jax.numpy.asarray(value) for name, value in weights}
        self._empty = partial(transformer.empty_caches, jax.numpy.asarray)
        self._caches = self._empty()
        self._shapes = jax.eval_shape(self._empty)

    def compile(self, name: str, program: Program, examples: Arguments) -> Compiled:
        """See State."""
        del name  # JAX tells programs apart by what they compute
        jitted = jax.jit(program, donate_argnums=1)
        compiled = jitted.lower(self._weights, self._shapes, *examples).compile()

        def run(*arguments: Any) -> NDArray[np.float32]:
            output, self._caches = compiled(self._weights, self._caches, *arguments)
            return np.asarray(output)

        return run

    def reset(self) -> None:
        """See State."""
        self._caches = self._empty()
