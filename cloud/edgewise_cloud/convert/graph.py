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

Each comes a second time, as `fused_decode` and so on, with attention as one custom op, which only our
own kernel runs (edgewise_edge/runtime/litert/attention.c). There the caches are float16, with a row for
every token that may come, the op writes the new rows into them, and neither a mask nor new rows go in
or out. A runtime without the kernel loads the file all the same, and runs the others.

For the cloud there may be one more, `fused_rows`: T tokens of T sequences, each with a cache of its own. The
caches are [slots, C, heads, head size], of which token t has the t-th, and `logits[T, vocabulary]` are
those of all.
"""

import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from edgewise_cloud.convert.attention import attend, attend_fused, attend_single
from edgewise_edge.runtime.signatures import DECODE, PREFILL, ROWS, SCORE, fused, fuses, top_size
from edgewise_edge.store.manifest import Architecture

EMBEDDING = "wte.weight"  # also the head: GPT-2 ties the two


def float32_tflite(
    weights: dict[str, np.ndarray],
    shape: Architecture,
    *,
    fused_attention: bool = True,
    rows: bool = False,
) -> bytes:
    """The `.tflite` file of a model's step; the keys of `weights` are those of checkpoint.weights().

    `fused_attention` adds the signatures with the custom op, if that can run the model, and `rows` the
    one for many sequences.
    """
    graph = StepGraph(weights, shape, fused=fused_attention and fuses(shape), rows=rows)
    signatures = dict(graph.signatures())
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(graph, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.allow_custom_ops = graph.fused
        tflite: bytes = converter.convert()
    return tflite


class StepGraph(tf.Module):  # type: ignore[misc]  # TensorFlow ships no types
    """The step over one model's weights."""

    def __init__(
        self,
        weights: dict[str, np.ndarray],
        shape: Architecture,
        *,
        fused: bool,
        rows: bool = False,
    ) -> None:
        super().__init__()
        self.fused = fused
        self._has_rows = fused and rows
        self._shape = shape
        folded = _folded(weights, shape)
        self._weights = {name: tf.Variable(value) for name, value in folded.items()}

    def signatures(self) -> Iterator[tuple[str, tf.types.experimental.ConcreteFunction]]:
        """Names and functions of the signatures."""
        last, following = tf.TensorSpec([1], tf.int32), tf.TensorSpec([None], tf.int32)
        for with_op in (False, True)[: 1 + self.fused]:
            name = fused if with_op else str
            yield name(PREFILL), self._signature(None, with_op, last=last)
            yield name(DECODE), self._signature(1, with_op)
            yield name(SCORE), self._signature(None, with_op, next=following)
        if self._has_rows:
            yield fused(ROWS), self._signature(None, with_op=True, slots=1)

    def _signature(
        self, length: int | None, with_op: bool, slots: int = 0, **more: tf.TensorSpec
    ) -> tf.types.experimental.ConcreteFunction:
        """With one cache; with a dimension of `slots` in front of its own, if that is 1."""
        shape = self._shape
        dtype = tf.float16 if with_op else tf.float32
        cache = tf.TensorSpec([*[None] * slots, None, shape.heads, shape.head_size], dtype)
        specs = {
            "tokens": tf.TensorSpec([length], tf.int32),
            "positions": tf.TensorSpec([length], tf.int32),
            **more,
        }
        if not with_op:
            specs["mask"] = tf.TensorSpec([length, None], tf.float32)
        for layer in range(shape.layers):
            specs |= {f"key_{layer}": cache, f"value_{layer}": cache}
        return tf.function(self._step, autograph=False).get_concrete_function(**specs)

    def _step(self, **inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        shape, outputs = self._shape, dict[str, tf.Tensor]()
        attention = self._builtin_attention if "mask" in inputs else self._fused_attention
        x = tf.gather(self._weights[EMBEDDING], inputs["tokens"])
        x += tf.gather(self._weights["wpe.weight"], inputs["positions"])
        x -= tf.reduce_mean(x, axis=-1, keepdims=True)  # _folded() keeps it centred from here on
        for layer in range(shape.layers):
            # Only the last token's logits are returned.
            last = inputs.get("last") if layer == shape.layers - 1 else None
            name = f"h.{layer}"
            qkv = self._dense(f"{name}.attn.c_attn", self._norm(f"{name}.ln_1", x))
            attended, new_rows = attention(layer, qkv, inputs, last)
            outputs |= new_rows
            x = self._after_attention(name, x if last is None else tf.gather(x, last), attended)
        logits = tf.matmul(self._norm("ln_f", x), self._weights[EMBEDDING], transpose_b=True)
        if "next" in inputs:
            return outputs | _scores(logits, inputs["next"])
        if inputs["key_0"].shape.rank == 4:  # a sequence for each token
            return outputs | {"logits": logits}
        return outputs | {"logits": tf.reshape(logits, [shape.vocabulary_size])}

    def _builtin_attention(
        self, layer: int, qkv: tf.Tensor, inputs: dict[str, tf.Tensor], last: tf.Tensor | None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """What the new tokens, or the `last` of them, attended to, and the caches' new rows."""
        shape, length, mask = self._shape, qkv.shape[0], inputs["mask"]
        query, key, value = (
            tf.reshape(rows, (length or -1, shape.heads, shape.head_size))
            for rows in tf.split(qkv, 3, axis=-1)
        )
        if last is not None:
            query, mask = tf.gather(query, last), tf.gather(mask, last)
        function = attend_single if length == 1 else attend
        keys, values = (key, inputs[f"key_{layer}"]), (value, inputs[f"value_{layer}"])
        new_rows = {f"new_key_{layer}": key, f"new_value_{layer}": value}
        return function(query, keys, values, mask), new_rows

    def _fused_attention(
        self, layer: int, qkv: tf.Tensor, inputs: dict[str, tf.Tensor], last: tf.Tensor | None
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """The same by the custom op, which writes the new rows itself."""
        caches = inputs[f"key_{layer}"], inputs[f"value_{layer}"]
        attended = attend_fused(qkv, *caches, inputs["positions"])
        return (attended if last is None else tf.gather(attended, last)), {}

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
