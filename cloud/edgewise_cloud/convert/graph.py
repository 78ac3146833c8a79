"""GPT-2's step as a TensorFlow graph that TFLite runs with its builtin ops alone.

A step reads T new tokens behind C cached rows. It takes `tokens[T]`, `positions[T]`,
`mask[T, T + C]` and per layer `key_i` and `value_i` [C, heads, head size], and returns per layer
`new_key_i` and `new_value_i` [T, heads, head size], and `logits[vocabulary]` of the last token. The
host writes the new rows behind the cached ones: the graph copies no cache. `mask` is added to the
attention scores, those of the new tokens first: zero where a token may look, edgewise_edge's MASKED
where not.

C is free, so that a short text does not pay for a long one: one signature serves every length.
There are two of them, `decode` (T = 1) and `prefill` (T is free), because a single row and a
matrix want their attention computed in different ways.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from edgewise_edge.runtime.signatures import DECODE, PREFILL
from edgewise_edge.store.manifest import Architecture

HEAD = "wte.weight"  # GPT-2 ties its head to its token embedding


class StepGraph(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The step over one model's weights; `weights` has the names of checkpoint.weights()."""

    def __init__(self, weights: dict[str, np.ndarray], shape: Architecture) -> None:
        super().__init__()
        self._shape = shape
        folded = _folded(weights, shape)
        self._weights = {name: tf.Variable(value) for name, value in folded.items()}

    def signatures(self) -> Iterator[tuple[str, tf.types.experimental.ConcreteFunction]]:
        """The named functions."""
        yield PREFILL, self._signature(None)
        yield DECODE, self._signature(1)

    def _signature(self, length: int | None) -> tf.types.experimental.ConcreteFunction:
        shape = self._shape
        cache = tf.TensorSpec([None, shape.heads, shape.head_size], tf.float32)
        specs = {
            "tokens": tf.TensorSpec([length], tf.int32),
            "positions": tf.TensorSpec([length], tf.int32),
            "mask": tf.TensorSpec([length, None], tf.float32),
        }
        if length is None:
            specs["last"] = tf.TensorSpec([1], tf.int32)
        for layer in range(shape.layers):
            specs |= {f"key_{layer}": cache, f"value_{layer}": cache}
        return tf.function(self._step).get_concrete_function(**specs)

    def _step(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        shape, outputs = self._shape, dict[str, tf.Tensor]()
        x = tf.gather(self._weights[HEAD], inputs["tokens"])
        x += tf.gather(self._weights["wpe.weight"], inputs["positions"])
        x -= tf.reduce_mean(x, axis=-1, keepdims=True)  # from here on it stays centred
        mask = inputs["mask"]
        for layer in range(shape.layers):
            name, caches = f"h.{layer}", (inputs[f"key_{layer}"], inputs[f"value_{layer}"])
            query, key, value = self._projected(name, x)
            outputs |= {f"new_key_{layer}": key, f"new_value_{layer}": value}
            if "last" in inputs and layer == shape.layers - 1:
                # Nobody asks what the others would say.
                x, query, mask = (tf.gather(part, inputs["last"]) for part in (x, query, mask))
            attend = _attend if "last" in inputs else _attend_one
            x = self._mixed(name, x, attend(query, (key, caches[0]), (value, caches[1]), mask))
        logits = tf.matmul(self._norm("ln_f", x), self._weights[HEAD], transpose_b=True)
        return outputs | {"logits": tf.reshape(logits, [shape.vocabulary_size])}

    def _projected(self, name: str, x: tf.Tensor) -> list[tf.Tensor]:
        """Query, key and value, each [T, heads, head size]."""
        shape, length = self._shape, x.shape[0] or -1
        qkv = self._dense(f"{name}.attn.c_attn", self._norm(f"{name}.ln_1", x))
        return [
            tf.reshape(part, (length, shape.heads, shape.head_size))
            for part in tf.split(qkv, 3, axis=-1)
        ]

    def _mixed(self, name: str, x: tf.Tensor, attended: tf.Tensor) -> tf.Tensor:
        """What of a block comes after its attention."""
        attended = tf.reshape(attended, (x.shape[0] or -1, self._shape.width))
        x += self._dense(f"{name}.attn.c_proj", attended)
        hidden = self._dense(f"{name}.mlp.c_fc", self._norm(f"{name}.ln_2", x))
        return x + self._dense(f"{name}.mlp.c_proj", tf.nn.gelu(hidden, approximate=True))

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, self._weights[f"{name}.weight"]) + self._weights[f"{name}.bias"]

    def _norm(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Layer norm of rows whose mean is zero already."""
        variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        # The gain goes with the variance, or the converter would multiply it into the matrix that
        # follows, and what it holds down would fill the range that activations are rounded in.
        gain = tf.math.rsqrt(variance + 1e-5) * self._weights[f"{name}.weight"]
        return x * gain + self._weights[f"{name}.bias"]


def _folded(weights: dict[str, np.ndarray], shape: Architecture) -> dict[str, np.ndarray]:
    """The weights, with work done in advance that the step would repeat for every token.

    Attention's scale goes into the query. What is added to the residual stream is centred: only
    layer norms read the stream, and they begin by taking its mean away.
    """
    folded = dict(weights)
    for layer in range(shape.layers):
        for part in ("weight", "bias"):
            name = f"h.{layer}.attn.c_attn.{part}"
            scale = np.ones(3 * shape.width, np.float32)
            scale[: shape.width] = shape.head_size**-0.5
            folded[name] = weights[name] * scale
            for name in (f"h.{layer}.attn.c_proj.{part}", f"h.{layer}.mlp.c_proj.{part}"):
                folded[name] = weights[name] - weights[name].mean(axis=-1, keepdims=True)
    return folded


_Parts = tuple[tf.Tensor, tf.Tensor]  # of the new tokens, of the cached ones


def _attend(query: tf.Tensor, keys: _Parts, values: _Parts, mask: tf.Tensor) -> tf.Tensor:
    """Attention of many tokens, as products of matrices."""
    by_head = (1, 0, 2)
    query, key, value = (
        tf.transpose(part, by_head) for part in (query, tf.concat(keys, 0), tf.concat(values, 0))
    )
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + mask)
    return tf.transpose(tf.matmul(weights, value), by_head)


def _attend_one(query: tf.Tensor, keys: _Parts, values: _Parts, mask: tf.Tensor) -> tf.Tensor:
    """Attention of a single token.

    XNNPACK's matrix product copies its right side, here the whole cache, before it multiplies;
    element by element the cache is read once, where it lies.
    """
    scores = tf.concat([tf.reduce_sum(key * query, -1) for key in keys], 0)
    weights = tf.nn.softmax(tf.transpose(scores) + mask)
    weights = tf.expand_dims(tf.transpose(weights), -1)
    new, cached = values
    return new * weights[:1] + tf.reduce_sum(cached * weights[1:], 0, keepdims=True)
