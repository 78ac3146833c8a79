"""GPT-2's step as a TensorFlow graph of TFLite builtin ops.

A step processes T new tokens after C cached rows. It takes `tokens[T]`, `positions[T]`,
`mask[T, T + C]` and per layer `key_i` and `value_i` [C, heads, head size], and returns per layer
`new_key_i` and `new_value_i` [T, heads, head size], and `logits[vocabulary]` of the last token. The
caller appends the new rows to the cached ones: the graph copies no cache. `mask` is added to the
attention scores, those of the new tokens first: zero where a token may attend, edgewise_edge's
MASKED elsewhere.

C is dynamic, so that the cost of a step grows with the sequence: one signature serves every length.
There are two signatures for that, `decode` (T = 1) and `prefill` (T is dynamic), because attention
of a single row and of a matrix are fastest when computed differently.

A third, `score`, takes many tokens like `prefill`, and `next[T]`, the token that follows each. In
place of `logits` it returns the log-probabilities of these, `logprobs[T]`, and the likeliest tokens at
each position, `top_logprobs[T, MAX_TOP]` and `top_ids[T, MAX_TOP]`: 164 bytes a position instead of
201 kB (GPT-2).
"""

import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from edgewise_edge.runtime.signatures import DECODE, PREFILL, SCORE, top_size
from edgewise_edge.store.manifest import Architecture

EMBEDDING = "wte.weight"  # also the head: GPT-2 ties the two


def float32_tflite(weights: dict[str, np.ndarray], shape: Architecture) -> bytes:
    """The `.tflite` file of a model's step; the keys of `weights` are those of checkpoint.weights()."""
    graph = StepGraph(weights, shape)
    signatures = dict(graph.signatures())
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        tflite: bytes = converter.convert()
    return tflite


class StepGraph(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The step over one model's weights."""

    def __init__(self, weights: dict[str, np.ndarray], shape: Architecture) -> None:
        super().__init__()
        self._shape = shape
        folded = _folded(weights, shape)
        self._weights = {name: tf.Variable(value) for name, value in folded.items()}

    def signatures(self) -> Iterator[tuple[str, tf.types.experimental.ConcreteFunction]]:
        """Names and functions of the signatures."""
        yield PREFILL, self._signature(None, last=tf.TensorSpec([1], tf.int32))
        yield DECODE, self._signature(1)
        yield SCORE, self._signature(None, next=tf.TensorSpec([None], tf.int32))

    def _signature(
        self, length: int | None, **more: tf.TensorSpec
    ) -> tf.types.experimental.ConcreteFunction:
        shape = self._shape
        cache = tf.TensorSpec([None, shape.heads, shape.head_size], tf.float32)
        specs = {
            "tokens": tf.TensorSpec([length], tf.int32),
            "positions": tf.TensorSpec([length], tf.int32),
            "mask": tf.TensorSpec([length, None], tf.float32),
            **more,
        }
        for layer in range(shape.layers):
            specs |= {f"key_{layer}": cache, f"value_{layer}": cache}
        return tf.function(self._step, autograph=False).get_concrete_function(**specs)

    def _step(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        shape, length, outputs = self._shape, inputs["tokens"].shape[0], dict[str, tf.Tensor]()
        x = tf.gather(self._weights[EMBEDDING], inputs["tokens"])
        x += tf.gather(self._weights["wpe.weight"], inputs["positions"])
        x -= tf.reduce_mean(x, axis=-1, keepdims=True)  # _folded() keeps it centred from here on
        mask = inputs["mask"]
        for layer in range(shape.layers):
            name, caches = f"h.{layer}", (inputs[f"key_{layer}"], inputs[f"value_{layer}"])
            query, key, value = self._query_key_value(name, x)
            outputs |= {f"new_key_{layer}": key, f"new_value_{layer}": value}
            if "last" in inputs and layer == shape.layers - 1:
                # Only the last token's logits are returned.
                x, query, mask = (tf.gather(rows, inputs["last"]) for rows in (x, query, mask))
            attend = _attend_single if length == 1 else _attend
            x = self._after_attention(
                name, x, attend(query, (key, caches[0]), (value, caches[1]), mask)
            )
        logits = tf.matmul(self._norm("ln_f", x), self._weights[EMBEDDING], transpose_b=True)
        if "next" in inputs:
            return outputs | _scores(logits, inputs["next"])
        return outputs | {"logits": tf.reshape(logits, [shape.vocabulary_size])}

    def _query_key_value(self, name: str, x: tf.Tensor) -> list[tf.Tensor]:
        """Query, key and value, each [T, heads, head size]."""
        shape, length = self._shape, x.shape[0] or -1
        qkv = self._dense(f"{name}.attn.c_attn", self._norm(f"{name}.ln_1", x))
        return [
            tf.reshape(rows, (length, shape.heads, shape.head_size))
            for rows in tf.split(qkv, 3, axis=-1)
        ]

    def _after_attention(self, name: str, x: tf.Tensor, attended: tf.Tensor) -> tf.Tensor:
        """The rest of a block: output projection, MLP and residuals."""
        attended = tf.reshape(attended, (x.shape[0] or -1, self._shape.width))
        x += self._dense(f"{name}.attn.c_proj", attended)
        hidden = self._dense(f"{name}.mlp.c_fc", self._norm(f"{name}.ln_2", x))
        return x + self._dense(f"{name}.mlp.c_proj", tf.nn.gelu(hidden, approximate=True))

    def _dense(self, name: str, x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(x, self._weights[f"{name}.weight"]) + self._weights[f"{name}.bias"]

    def _norm(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Layer norm of rows whose mean is already zero."""
        variance = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        # The gain is applied before x. Otherwise the converter folds it into the matrix that
        # follows, and channels with a small gain dominate the range of quantized activations.
        gain = tf.math.rsqrt(variance + 1e-5) * self._weights[f"{name}.weight"]
        return x * gain + self._weights[f"{name}.bias"]


def _folded(weights: dict[str, np.ndarray], shape: Architecture) -> dict[str, np.ndarray]:
    """The weights, with work folded in that the step would otherwise repeat for every token.

    Attention's scale is folded into the query. What is added to the residual stream is centred:
    only layer norms read the stream, and they subtract its mean first.
    """
    folded = dict(weights)
    for layer in range(shape.layers):
        for kind in ("weight", "bias"):
            name = f"h.{layer}.attn.c_attn.{kind}"
            scale = np.ones(3 * shape.width, np.float32)
            scale[: shape.width] = shape.head_size**-0.5
            folded[name] = weights[name] * scale
            for name in (f"h.{layer}.attn.c_proj.{kind}", f"h.{layer}.mlp.c_proj.{kind}"):
                folded[name] = weights[name] - weights[name].mean(axis=-1, keepdims=True)
    return folded


def _scores(logits: tf.Tensor, next_tokens: tf.Tensor) -> dict[str, tf.Tensor]:
    """Log-probabilities by `logits` [T, vocabulary]: of the next tokens, and of the likeliest."""
    top_logits, top_ids = tf.math.top_k(logits, top_size(logits.shape[1]))
    largest = top_logits[:, :1]
    # Only what is returned is normalized: tf.nn.log_softmax would write the whole vocabulary.
    total = largest + tf.math.log(tf.reduce_sum(tf.exp(logits - largest), -1, keepdims=True))
    chosen = tf.gather(logits, next_tokens, batch_dims=1)
    return {
        "logprobs": chosen - tf.squeeze(total, -1),
        "top_logprobs": top_logits - total,
        # LiteRT cannot have TOPK_V2 write into our memory, as it can RESHAPE.
        "top_ids": tf.reshape(top_ids, [-1, top_ids.shape[1]]),
    }


_NewAndCached = tuple[tf.Tensor, tf.Tensor]  # rows of the new tokens, rows of the cached ones


def _attend(
    query: tf.Tensor, keys: _NewAndCached, values: _NewAndCached, mask: tf.Tensor
) -> tf.Tensor:
    """Attention of many tokens, as matrix products."""
    by_head = (1, 0, 2)
    query, key, value = (
        tf.transpose(rows, by_head) for rows in (query, tf.concat(keys, 0), tf.concat(values, 0))
    )
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + mask)
    return tf.transpose(tf.matmul(weights, value), by_head)


def _attend_single(
    query: tf.Tensor, keys: _NewAndCached, values: _NewAndCached, mask: tf.Tensor
) -> tf.Tensor:
    """Attention of a single token.

    XNNPACK's matrix product copies its right operand, here the whole cache, before it multiplies.
    Elementwise ops read the cache once, in place.
    """
    scores = tf.concat([tf.reduce_sum(key * query, -1) for key in keys], 0)
    weights = tf.nn.softmax(tf.transpose(scores) + mask)
    weights = tf.expand_dims(tf.transpose(weights), -1)
    new, cached = values
    return new * weights[:1] + tf.reduce_sum(cached * weights[1:], 0, keepdims=True)
