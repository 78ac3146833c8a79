"""A quantised CTranslate2 model folder.

Fills CTranslate2's own specification as its converter does, which would need transformers and
PyTorch. int8 has a scale for each output, and stores the embedding once, for look-up and head. The
vocabulary is the ids in decimal.
"""

from pathlib import Path

import numpy as np
from ctranslate2.specs import TransformerDecoderModelSpec, common_spec

from benchmarks.peers.make.checkpoint import Checkpoint, read


def make(source: Path, out: Path, form: str) -> None:
    """Forms: int8, float32."""
    spec = filled(read(source))
    spec.validate()
    spec.optimize(quantization=None if form == "float32" else form)
    out.mkdir(parents=True, exist_ok=True)
    spec.save(str(out))


def filled(model: Checkpoint) -> TransformerDecoderModelSpec:
    """The specification of GPT-2 with the weights in it."""
    spec = TransformerDecoderModelSpec.from_config(
        model.layers, model.heads, activation=common_spec.Activation.GELUTanh
    )
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight = model.tensors["wte.weight"]
    decoder.projection.weight = model.tensors["wte.weight"]
    decoder.position_encodings.encodings = model.tensors["wpe.weight"]
    set_norm(decoder.layer_norm, model, "ln_f")
    for index, layer in enumerate(decoder.layer):
        set_norm(layer.self_attention.layer_norm, model, f"h.{index}.ln_1")
        set_dense(layer.self_attention.linear[0], model, f"h.{index}.attn.c_attn")
        set_dense(layer.self_attention.linear[1], model, f"h.{index}.attn.c_proj")
        set_norm(layer.ffn.layer_norm, model, f"h.{index}.ln_2")
        set_dense(layer.ffn.linear_0, model, f"h.{index}.mlp.c_fc")
        set_dense(layer.ffn.linear_1, model, f"h.{index}.mlp.c_proj")
    last = str(model.vocabulary - 1)  # GPT-2's end of text
    spec.config.bos_token = spec.config.eos_token = spec.config.unk_token = last
    spec.config.layer_norm_epsilon = 1e-5
    spec.register_vocabulary([str(token) for token in range(model.vocabulary)])
    return spec


def set_norm(spec: common_spec.LayerNormSpec, model: Checkpoint, name: str) -> None:
    spec.gamma = model.tensors[f"{name}.weight"]
    spec.beta = model.tensors[f"{name}.bias"]


def set_dense(spec: common_spec.LinearSpec, model: Checkpoint, name: str) -> None:
    """Fill a dense layer; CTranslate2's weights have the shape (outputs, inputs)."""
    spec.weight = np.ascontiguousarray(model.tensors[f"{name}.weight"].T)
    spec.bias = model.tensors[f"{name}.bias"]
