"""A Keras GPT-2's weights under the names of Hugging Face's GPT-2 layout, and saving them.

Safetensors and JSON only: nothing in a checkpoint can run code.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from keras_hub.models import GPT2Backbone
from safetensors import SafetensorError
from safetensors.numpy import save_file

from edgewise_cloud.files import atomic_write
from edgewise_cloud.keras_models.hugging_face.config import CONFIG_FILE, GPT2Config
from edgewise_cloud.keras_models.hugging_face.tensors import WEIGHTS_FILE, tensor_shapes


def save_checkpoint(backbone: GPT2Backbone, folder: Path, dtype: str = "float32") -> None:
    """Write `config.json` and `model.safetensors` (weights as `dtype`) into `folder`.

    Both are written atomically, the weights last: if they exist, the model is complete. Raises
    OSError.
    """
    tensors = {
        name: np.ascontiguousarray(value, dtype) for name, value in weights(backbone).items()
    }
    config = GPT2Config.of(backbone).to_json()
    with atomic_write(folder / CONFIG_FILE) as partial:
        partial.write_text(json.dumps(config, indent=2) + "\n")
    with atomic_write(folder / WEIGHTS_FILE) as partial:
        try:
            save_file(tensors, partial, metadata={"format": "np"})
        except SafetensorError as error:  # a full disk, for example
            raise OSError(str(error)) from error
        partial.chmod(0o644)  # safetensors makes it readable by its owner only


def weights(backbone: GPT2Backbone) -> dict[str, np.ndarray]:
    """The weights under GPT-2's own names (`wte.weight`, `h.0.attn.c_attn.weight`, ...).

    Kernels are (inputs, outputs), as in openai/gpt-2; query, key and value are one kernel.
    """
    shapes = tensor_shapes(GPT2Config.of(backbone))
    tensors = {}
    for name, variables in _variables(backbone).items():
        *rows, _ = shapes[name]
        parts = [np.asarray(part, np.float32).reshape(*rows, -1) for part in variables]
        tensors[name] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
    return tensors


def assign_weights(backbone: GPT2Backbone, tensors: Mapping[str, np.ndarray]) -> None:
    """The inverse of `weights()`: set all of the backbone's weights."""
    for name, variables in _variables(backbone).items():
        parts = np.split(tensors[name], len(variables), axis=-1)
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part.reshape(variable.shape))


def _variables(backbone: GPT2Backbone) -> dict[str, tuple[Any, ...]]:
    """The variables that make up each tensor, side by side."""
    variables = {
        "wte.weight": (backbone.token_embedding.embeddings,),
        "wpe.weight": (backbone.position_embedding.position_embeddings,),
        "ln_f.weight": (backbone.layer_norm.gamma,),
        "ln_f.bias": (backbone.layer_norm.beta,),
    }
    for index, layer in enumerate(backbone.transformer_layers):
        for name, parts in _layer_variables(layer).items():
            variables[f"h.{index}.{name}"] = parts
    return variables


def _layer_variables(layer: Any) -> dict[str, tuple[Any, ...]]:
    attention = layer._self_attention_layer
    norms = {"ln_1": layer._self_attention_layer_norm, "ln_2": layer._feedforward_layer_norm}
    denses = {
        "attn.c_attn": (attention.query_dense, attention.key_dense, attention.value_dense),
        "attn.c_proj": (attention.output_dense,),
        "mlp.c_fc": (layer._feedforward_intermediate_dense,),
        "mlp.c_proj": (layer._feedforward_output_dense,),
    }
    variables: dict[str, tuple[Any, ...]] = {}
    for name, norm in norms.items():
        variables |= {f"{name}.weight": (norm.gamma,), f"{name}.bias": (norm.beta,)}
    for name, parts in denses.items():
        variables[f"{name}.weight"] = tuple(dense.kernel for dense in parts)
        variables[f"{name}.bias"] = tuple(dense.bias for dense in parts)
    return variables
