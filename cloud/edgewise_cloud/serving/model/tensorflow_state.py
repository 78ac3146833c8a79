"""Weights as TensorFlow's tensors and caches as its variables, which XLA's programs update in place."""

import hashlib
import threading
from itertools import chain

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.python.eager import context, execute

from edgewise_cloud.serving.model import program_cache
from edgewise_cloud.serving.model.layout import flatten
from edgewise_cloud.serving.model.state import Arguments, Compiled, NamedWeights, Program
from edgewise_cloud.serving.model.transformer import Transformer

_defining = threading.Lock()


class TensorFlowState:
    """A State; see state.py.

    A program is a function of TensorFlow's runtime, under a name that says what it computes on
    which shapes: models of the same shape share what is compiled, and program_cache.py finds it
    again at the next start, without Python having to trace it.
    """

    def __init__(self, weights: NamedWeights, transformer: Transformer) -> None:
        self._weights = {name: tf.constant(value) for name, value in weights}
        # In TensorFlow's own memory: NumPy's would be copied by the first step.
        self._caches = transformer.empty_caches(
            lambda empty: tf.Variable(tf.zeros(empty.shape, empty.dtype))
        )
        self._variables = flatten(self._caches)
        shapes = [(name, each.shape, each.dtype) for name, each in self._weights.items()]
        self._shapes = f"{transformer} {shapes}"

    def compile(self, name: str, program: Program, examples: Arguments) -> Compiled:
        """See State."""
        forms = [(each.shape, each.dtype) for each in examples]
        digest = hashlib.sha256(f"{self._shapes} {forms}".encode()).hexdigest()[:16]
        function = f"edgewise_{name}_{digest}"
        with _defining:  # models of one shape share functions
            if not context.context().has_function(function):
                context.context().add_function_def(self._definition(function, program, examples))
        self._launch(function, examples, self._lookalikes())
        return lambda *arguments: self._launch(function, arguments, self._variables)

    def reset(self) -> None:
        """See State."""
        for part in self._variables:
            part.assign(tf.zeros_like(part))

    def _definition(self, function: str, program: Program, examples: Arguments) -> FunctionDef:
        """From the cache, or traced."""
        cache, definition = program_cache.current(), FunctionDef()
        kept = cache.read(f"{function}.def") if cache else None
        if kept:
            definition.ParseFromString(kept)
            return definition
        definition.CopyFrom(self._traced(program, examples))
        definition.signature.name = function
        definition.attr["_XlaMustCompile"].b = True
        if cache:
            cache.keep(f"{function}.def", definition.SerializeToString(deterministic=True))
        return definition

    def _traced(self, program: Program, examples: Arguments) -> FunctionDef:
        """Of arguments, weights and the caches' variables, in this order."""
        count = len(examples)

        def step(*inputs: tf.Tensor) -> tf.Tensor:
            weights = dict(zip(self._weights, inputs[count:], strict=True))
            caches = [
                [(keys.value(), values.value()) for keys, values in cache] for cache in self._caches
            ]
            output, changed = program(weights, caches, *inputs[:count])
            parts = zip(self._variables, flatten(caches), flatten(changed), strict=True)
            for variable, before, after in parts:
                if after is not before:
                    variable.assign(after)
            return output

        inputs = [*examples, *self._weights.values()]
        specs = [tf.TensorSpec(each.shape, each.dtype) for each in inputs]
        traced = tf.function(step, autograph=False).get_concrete_function(*specs)
        return traced.function_def

    def _lookalikes(self) -> list[tf.Variable]:
        """Variables like those of the caches, for a first run that compiles a program.

        Memory that is never written to: a run touches little of it.
        """
        return [
            tf.Variable(tf.raw_ops.Empty(shape=each.shape, dtype=each.dtype, init=False))
            for each in self._variables
        ]

    def _launch(
        self, function: str, arguments: Arguments, variables: list[tf.Variable]
    ) -> NDArray[np.float32]:
        """Run a program over `variables`; XLA compiles it if it has not yet for these shapes."""
        inputs = [*map(tf.constant, arguments), *self._weights.values()]
        inputs += [variable.handle for variable in variables]
        # As a call of tf.function: as XlaLaunch, XLA would copy the caches at every run.
        options = context.context().function_call_options.as_attrs()
        attributes = tuple(chain.from_iterable(options.items()))
        (output,) = execute.execute(function, 1, inputs, attributes, context.context())
        found: NDArray[np.float32] = output.numpy()
        return found
