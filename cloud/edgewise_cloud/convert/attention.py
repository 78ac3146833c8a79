"""Attention in the step's graph (graph.py): of builtin ops, and as one custom op."""

import tensorflow as tf

from edgewise_edge.runtime.signatures import ATTENTION

NewAndCached = tuple[tf.Tensor, tf.Tensor]  # rows of the new tokens, rows of the cached ones


def attend(
    query: tf.Tensor, keys: NewAndCached, values: NewAndCached, mask: tf.Tensor
) -> tf.Tensor:
    """Attention of many tokens, as matrix products."""
    by_head = (1, 0, 2)
    query, key, value = (
        tf.transpose(rows, by_head) for rows in (query, tf.concat(keys, 0), tf.concat(values, 0))
    )
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + mask)
    return tf.transpose(tf.matmul(weights, value), by_head)


def attend_single(
    query: tf.Tensor, keys: NewAndCached, values: NewAndCached, mask: tf.Tensor
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


@tf.function(  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    autograph=False,
    experimental_implements=f'name: "{ATTENTION}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}',
)
def attend_fused(
    qkv: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, positions: tf.Tensor
) -> tf.Tensor:
    """Attention as the custom op that edgewise_edge/runtime/litert/attention.c defines.

    The converter puts the op in place of this function, which only says what the op returns.
    """
    del keys, values, positions
    return tf.zeros_like(qkv[:, : qkv.shape[1] // 3])
