"""Saving a Keras GPT-2 in the Hugging Face GPT-2 layout, which KerasHub reads itself.

Safetensors and JSON only: nothing in a checkpoint can run code.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from keras_hub.models import GPT2Backbone
from safetensors import SafetensorError
from safetensors.numpy import save_file

from edgewise_cloud.files import atomic_write
from edgewise_cloud.keras_models.find import CONFIG_FILE, WEIGHTS_FILE


def save_checkpoint(backbone: GPT2Backbone, folder: Path, dtype: str = "float32") -> None:
    """Write `config.json` and `model.safetensors` (weights as `dtype`) into `folder`.

    Both are written atomically, the weights last: if they exist, the model is complete. Raises
    OSError.
    """
    tensors = {
        name: np.ascontiguousarray(value, dtype) for name, value in weights(backbone).items()
    }
    with atomic_write(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(_config(backbone), indent=2) + "\n")
    with atomic_write(folder / WEIGHTS_FILE) as partial:
        try:
            save_file(tensors, partial, metadata={"format": "np"})
        except SafetensorError as error:  # a full disk, for example
            raise OSError(str(error)) from error
        partial.chmod(0o644)  # safetensors makes it readable by its owner only


def _config(backbone: GPT2Backbone) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": backbone.vocabulary_size,
        "n_layer": backbone.num_layers,
        "n_head": backbone.num_heads,
        "n_embd": backbone.hidden_dim,
        "n_positions": backbone.max_sequence_length,
        "resid_pdrop": backbone.dropout,
        "layer_norm_epsilon": 1e-5,
        "activation_function": "gelu_new",
    }


def weights(backbone: GPT2Backbone) -> dict[str, np.ndarray]:
    """The weights under GPT-2's own names (`wte.weight`, `h.0.attn.c_attn.weight`, ...).

    Kernels are (inputs, outputs), as in openai/gpt-2; query, key and value are one kernel.
    """
    tensors = {
        "wte.weight": _array(backbone.token_embedding.embeddings),
        "wpe.weight": _array(backbone.position_embedding.position_embeddings),
        "ln_f.weight": _array(backbone.layer_norm.gamma),
        "ln_f.bias": _array(backbone.layer_norm.beta),
    }
    for index, layer in enumerate(backbone.transformer_layers):
        for name, value in _layer_weights(layer, backbone.hidden_dim).items():
            tensors[f"h.{index}.{name}"] = value
    return tensors


def _layer_weights(layer: Any, width: int) -> dict[str, np.ndarray]:
    attention = layer._self_attention_layer
    qkv = (attention.query_dense, attention.key_dense, attention.value_dense)
    norms = {"ln_1": layer._self_attention_layer_norm, "ln_2": layer._feedforward_layer_norm}
    others = {
        "attn.c_proj": attention.output_dense,
        "mlp.c_fc": layer._feedforward_intermediate_dense,
        "mlp.c_proj": layer._feedforward_output_dense,
    }
    tensors = {
        "attn.c_attn.weight": np.concatenate(
            [_array(dense.kernel).reshape(width, width) for dense in qkv], axis=1
        ),
        "attn.c_attn.bias": np.concatenate([_array(dense.bias).reshape(width) for dense in qkv]),
    }
    for name, norm in norms.items():
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = _array(norm.gamma), _array(norm.beta)
    for name, dense in others.items():
        bias = _array(dense.bias).reshape(-1)
        tensors[f"{name}.weight"] = _array(dense.kernel).reshape(-1, bias.size)
        tensors[f"{name}.bias"] = bias
    return tensors


def _array(variable: Any) -> np.ndarray:
    return np.asarray(variable, dtype=np.float32)
