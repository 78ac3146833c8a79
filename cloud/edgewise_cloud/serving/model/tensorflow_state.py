"""Weights and caches as TensorFlow variables, which XLA's programs update in place."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import flatten
from edgewise_cloud.serving.model.state import Compiled, NamedWeights, Program
from edgewise_cloud.serving.model.transformer import Transformer


class TensorFlowState:
    """A State; see state.py."""

    def __init__(self, weights: NamedWeights, transformer: Transformer) -> None:
        self._weights = {name: tf.Variable(value) for name, value in weights}
        self._caches = transformer.empty_caches(tf.Variable)

    def compile(self, program: Program) -> Compiled:
        """A function that XLA compiles once for each set of argument shapes."""
        traced = dict[tuple[tuple[int, ...], ...], Any]()

        def run(*arguments: NDArray[Any]) -> NDArray[np.float32]:
            shapes = tuple(argument.shape for argument in arguments)
            if shapes not in traced:
                specs = [tf.TensorSpec(argument.shape, argument.dtype) for argument in arguments]
                function = tf.function(self._step(program), jit_compile=True, autograph=False)
                traced[shapes] = function.get_concrete_function(*specs)
            output: NDArray[np.float32] = traced[shapes](*map(tf.constant, arguments)).numpy()
            return output

        return run

    def reset(self) -> None:
        """See State."""
        for part in flatten(self._caches):
            part.assign(tf.zeros_like(part))

    def _step(self, program: Program) -> Any:
        def step(*arguments: tf.Tensor) -> tf.Tensor:
            caches = [
                [(keys.value(), values.value()) for keys, values in cache] for cache in self._caches
            ]
            output, changed = program(self._weights, caches, *arguments)
            parts = zip(flatten(self._caches), flatten(caches), flatten(changed), strict=True)
            for variable, before, after in parts:
                if after is not before:
                    variable.assign(after)
            return output

        return step
