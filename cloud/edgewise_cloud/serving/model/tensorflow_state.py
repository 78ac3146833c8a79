"""Weights and caches as TensorFlow variables, which XLA's programs change where they lie."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgewise_cloud.serving.model.state import Compiled, Program, Weights
from edgewise_cloud.serving.model.transformer import Transformer, flat


class TensorFlowState:
    """A State; see state.py."""

    def __init__(self, weights: Weights, transformer: Transformer) -> None:
        self._weights = {name: tf.Variable(value) for name, value in weights}
        self._caches = transformer.empty_caches(tf.Variable)

    def compile(self, program: Program) -> Compiled:
        """A function that XLA compiles, once for each shape of its numbers."""
        traced = dict[tuple[tuple[int, ...], ...], Any]()

        def run(*numbers: NDArray[Any]) -> NDArray[np.float32]:
            shapes = tuple(number.shape for number in numbers)
            if shapes not in traced:
                specs = [tf.TensorSpec(number.shape, number.dtype) for number in numbers]
                function = tf.function(self._step(program), jit_compile=True, autograph=False)
                traced[shapes] = function.get_concrete_function(*specs)
            output: NDArray[np.float32] = traced[shapes](*map(tf.constant, numbers)).numpy()
            return output

        return run

    def reset(self) -> None:
        """See State."""
        for part in flat(self._caches):
            part.assign(tf.zeros_like(part))

    def _step(self, program: Program) -> Any:
        def step(*numbers: tf.Tensor) -> tf.Tensor:
            caches = [
                [(keys.value(), values.value()) for keys, values in cache] for cache in self._caches
            ]
            output, changed = program(self._weights, caches, *numbers)
            parts = zip(flat(self._caches), flat(caches), flat(changed), strict=True)
            for variable, before, after in parts:
                if after is not before:
                    variable.assign(after)
            return output

        return step
