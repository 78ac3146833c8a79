"""GPT-2's step as a TensorFlow graph that TFLite runs with its builtin ops alone.

A step takes `tokens[T]`, `position[1]` and per layer a flat `key_i` and `value_i` cache (heads x C
x head size; rows at `position` and beyond are ignored). It returns `rows`, the new keys and values
(layer, key | value, head, token, head size) flattened, which the host writes into its caches: the
graph copies no cache. Decode signatures (T = 1) also return `logits[vocabulary]`; prefill ones do
not, so the head never runs for a position that nobody samples.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from edgewise_edge.manifest import Architecture
from edgewise_edge.signatures import decode_name, prefill_name

HEAD = "wte.weight"  # GPT-2 ties its head to its token embedding
MASKED = -1e9  # finite: a row that is masked throughout must not become NaN


class StepGraph(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The step over one model's weights; `weights` has the names of checkpoint.weights()."""

    def __init__(self, weights: dict[str, np.ndarray], shape: Architecture) -> None:
        super().__init__()
        self._shape = shape
        self._weights = {name: tf.Variable(value) for name, value in weights.items()}

    def signatures(
        self, chunk: int, buckets: list[int]
    ) -> Iterator[tuple[str, tf.types.experimental.ConcreteFunction]]:
        """The named functions for prompts in chunks of `chunk` tokens, per cache bucket."""
        for bucket in buckets:
            yield prefill_name(chunk, bucket), self._signature(chunk, bucket, head=False)
            yield decode_name(bucket), self._signature(1, bucket, head=True)

    def _signature(
        self, length: int, bucket: int, *, head: bool
    ) -> tf.types.experimental.ConcreteFunction:
        cache = tf.TensorSpec([bucket * self._shape.width], tf.float32)
        specs = {
            "tokens": tf.TensorSpec([length], tf.int32),
            "position": tf.TensorSpec([1], tf.int32),
        }
        for layer in range(self._shape.layers):
            specs |= {f"key_{layer}": cache, f"value_{layer}": cache}

        def step(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._step(inputs, length, bucket, head=head)

        return tf.function(step).get_concrete_function(**specs)

    def _step(
        self, inputs: dict[str, tf.Tensor], length: int, bucket: int, *, head: bool
    ) -> dict[str, tf.Tensor]:
        shape, rows = self._shape, []
        position = inputs["position"]
        # The padding of a last chunk may reach beyond the window; its rows are never used.
        positions = tf.minimum(position + tf.range(length), shape.context_window - 1)
        x = tf.gather(self._weights[HEAD], inputs["tokens"])
        x += tf.gather(self._weights["wpe.weight"], positions)
        mask = _mask(position, length, bucket)
        for layer in range(shape.layers):
            caches = [
                tf.reshape(inputs[f"{kind}_{layer}"], (shape.heads, bucket, shape.head_size))
                for kind in ("key", "value")
            ]
            x, new_rows = self._block(f"h.{layer}", x, caches, mask)
            rows += new_rows
        outputs = {"rows": tf.reshape(tf.stack(rows), [-1])}
        if head:
            x = self._norm("ln_f", x)
            logits = tf.matmul(x, self._weights[HEAD], transpose_b=True)
            outputs["logits"] = tf.reshape(logits, [shape.vocabulary_size])
        return outputs

    def _block(
        self, name: str, x: tf.Tensor, caches: list[tf.Tensor], mask: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        qkv = self._dense(f"{name}.attn.c_attn", self._norm(f"{name}.ln_1", x))
        query, key, value = (self._split_heads(part) for part in tf.split(qkv, 3, axis=-1))
        attended = _attend(query, [caches[0], key], [caches[1], value], mask)
        attended = tf.reshape(tf.transpose(attended, (1, 0, 2)), (-1, self._shape.width))
        x += self._dense(f"{name}.attn.c_proj", attended)
        hidden = self._dense(f"{name}.mlp.c_fc", self._norm(f"{name}.ln_2", x))
        x += self._dense(f"{name}.mlp.c_proj", tf.nn.gelu(hidden, approximate=True))
        return x, [key, value]

    def _split_heads(self, x: tf.Tensor) -> tf.Tensor:
        shape = self._shape
        return tf.transpose(tf.reshape(x, (-1, shape.heads, shape.head_size)), (1, 0, 2))

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, self._weights[f"{name}.weight"]) + self._weights[f"{name}.bias"]

    def _norm(self, name: str, x: tf.Tensor) -> tf.Tensor:
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
        # The gain goes with the variance, or the converter would multiply it into the matrix that
        # follows, and what it holds down would fill the range that activations are rounded in.
        gain = tf.math.rsqrt(variance + 1e-5) * self._weights[f"{name}.weight"]
        return centred * gain + self._weights[f"{name}.bias"]


def _mask(position: tf.Tensor, length: int, bucket: int) -> tf.Tensor:
    """What each new row may see: (T, C + T), zero where it may, MASKED where not."""
    cached = tf.cast(tf.range(bucket) >= position, tf.float32)
    cached = tf.broadcast_to(cached, (length, bucket))
    new = tf.constant(np.triu(np.ones((length, length), np.float32), k=1))
    return tf.concat([cached, new], axis=-1) * MASKED


def _attend(
    query: tf.Tensor, keys: list[tf.Tensor], values: list[tf.Tensor], mask: tf.Tensor
) -> tf.Tensor:
    """Attention over the cached rows and the new ones, which stay apart to save the copy."""
    query *= query.shape[-1] ** -0.5
    scores = tf.concat([tf.matmul(query, key, transpose_b=True) for key in keys], axis=-1)
    weights = tf.nn.softmax(scores + mask, axis=-1)
    cached = keys[0].shape[1]
    return tf.matmul(weights[..., :cached], values[0]) + tf.matmul(weights[..., cached:], values[1])
