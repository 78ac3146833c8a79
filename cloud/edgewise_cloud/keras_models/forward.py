"""GPT-2 in plain NumPy, and the check of a loaded Keras model against it."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.config import LAYER_NORM_EPSILON, GPT2Config

Floats = NDArray[np.floating[Any]]
TOKENS = 8
# How far Keras's logits may be from NumPy's: the root mean square over their standard deviation.
# Accelerators multiply float32 in fewer bits, too (TF32, bfloat16).
ALLOWED_IN_FLOAT32 = 1e-3
ALLOWED_IN_FEWER_BITS = 0.1


def require_same_logits(
    backbone: Any, tensors: Mapping[str, Floats], config: GPT2Config, name: str
) -> None:
    """Raise CheckpointError unless `backbone` computes what `tensors` and `config` define."""
    expected = expected_logits(tensors, config, name)
    found = _keras_logits(backbone, probe_tokens(config))
    require_close(found, expected, str(backbone.dtype_policy.name), name)


def probe_tokens(config: GPT2Config) -> NDArray[np.int32]:
    """A few tokens that are spread over the vocabulary, from which both predict."""
    sizes = config.architecture
    length = min(TOKENS, sizes.context_window)
    return np.linspace(0, sizes.vocabulary_size - 1, length, dtype=np.int32)


def expected_logits(tensors: Mapping[str, Floats], config: GPT2Config, name: str) -> Floats:
    """The logits after each of `probe_tokens`. Raises CheckpointError if they are not finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        expected = logits(probe_tokens(config), tensors, config)
    if not np.isfinite(expected).all():
        raise CheckpointError(f"{name}: its logits are not finite; its weights are too large")
    return expected


def require_close(found: Floats, expected: Floats, dtype: str, name: str) -> None:
    """Raise CheckpointError unless logits computed in `dtype` are those that are expected."""
    with np.errstate(over="ignore", invalid="ignore"):
        difference = np.sqrt(np.mean(np.square(found - expected)))
    if not difference <= _allowed(dtype) * expected.std():  # NaN fails this, too
        raise CheckpointError(
            f"{name}: the logits of the Keras model differ from those that its weights and config "
            f"define by {difference:.3g} (root mean square; standard deviation "
            f"{expected.std():.3g}): it was read wrongly"
        )


def logits(tokens: NDArray[np.int32], tensors: Mapping[str, Floats], config: GPT2Config) -> Floats:
    """The logits (tokens, vocabulary) after each of `tokens`, by openai/gpt-2's definition."""
    embedding = tensors["wte.weight"]
    x = embedding[tokens] + tensors["wpe.weight"][: len(tokens)]
    for layer in range(config.architecture.layers):
        name = f"h.{layer}"
        x = x + _attention(
            _norm(x, f"{name}.ln_1", tensors), f"{name}.attn", tensors, config.architecture.heads
        )
        hidden = _dense(_norm(x, f"{name}.ln_2", tensors), f"{name}.mlp.c_fc", tensors)
        x = x + _dense(_gelu(hidden), f"{name}.mlp.c_proj", tensors)
    found: Floats = _norm(x, "ln_f", tensors) @ embedding.T
    return found


def _attention(x: Floats, name: str, tensors: Mapping[str, Floats], heads: int) -> Floats:
    length, width = x.shape
    query, key, value = (
        part.reshape(length, heads, -1).swapaxes(0, 1)
        for part in np.split(_dense(x, f"{name}.c_attn", tensors), 3, axis=-1)
    )
    scores = query @ key.swapaxes(1, 2) / np.float32(np.sqrt(width // heads))
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return _dense((weights @ value).swapaxes(0, 1).reshape(x.shape), f"{name}.c_proj", tensors)


def _dense(x: Floats, name: str, tensors: Mapping[str, Floats]) -> Floats:
    product: Floats = x @ tensors[f"{name}.weight"] + tensors[f"{name}.bias"]
    return product


def _norm(x: Floats, name: str, tensors: Mapping[str, Floats]) -> Floats:
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = np.mean(np.square(centred), axis=-1, keepdims=True)
    normed: Floats = centred / np.sqrt(variance + np.float32(LAYER_NORM_EPSILON))
    return normed * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]


def _gelu(x: Floats) -> Floats:
    inner = np.float32(np.sqrt(2 / np.pi)) * (x + np.float32(0.044715) * x**3)
    activated: Floats = np.float32(0.5) * x * (1 + np.tanh(inner))
    return activated


def _allowed(dtype: str) -> float:
    devices = keras.distribution.list_devices()
    exact = all(device.lower().startswith("cpu") for device in devices)
    if exact and dtype == "float32":
        return ALLOWED_IN_FLOAT32
    return ALLOWED_IN_FEWER_BITS


def _keras_logits(backbone: Any, tokens: NDArray[np.int32]) -> Floats:
    ids = tokens[None]
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    rows: Floats = np.asarray(backbone.token_embedding(hidden, reverse=True), np.float32)[0]
    return rows
