"""Reading `config.json` of a GPT-2 in Hugging Face's layout.

Every field that changes what the model computes is honoured, or refused by name. So is a field that
is not known here: nobody can say what it changes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.json_file import read_object
from edgewise_edge.store.manifest import Architecture

CONFIG_FILE = "config.json"
LAYER_NORM_EPSILON = 1e-5
DROPOUT = 0.1  # GPT-2's, where a checkpoint states none
MAX_SIZE = 2**31  # of any dimension
TRANSFORMERS_MODELS = ("GPT2LMHeadModel", "GPT2Model")

# Sizes, under all the names that transformers reads or once wrote.
SIZES = {
    "vocabulary_size": ("vocab_size",),
    "context_window": ("n_positions", "max_position_embeddings", "n_ctx"),
    "layers": ("n_layer", "num_hidden_layers"),
    "heads": ("n_head", "num_attention_heads"),
    "width": ("n_embd", "hidden_size"),
}
INNER = "n_inner"
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")

# Fields that change what a GPT-2 computes, and the values it is computed with here.
COMPUTED_WITH: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast"),  # three names of one
    "layer_norm_epsilon": (LAYER_NORM_EPSILON,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "tie_encoder_decoder": (False,),
    "cross_attention_hidden_size": (),
    "pruned_heads": ({},),
    "quantization_config": (),
    "auto_map": ({},),  # the model's code lies in the repository
    "tie_word_embeddings": (True, False),  # see tensors.py: the tensors decide
}

# Fields that change nothing here: notes, training, other tasks, tokenizers, generation's settings.
_NEUTRAL = """
architectures transformers_version torch_dtype dtype use_cache initializer_range
gradient_checkpointing reorder_and_upcast_attn attn_implementation chunk_size_feed_forward
is_decoder use_bfloat16 torchscript tf_legacy_loss return_dict return_dict_in_generate
output_attentions output_hidden_states output_past output_scores keys_to_ignore_at_inference
bos_token_id eos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id
decoder_start_token_id forced_bos_token_id forced_eos_token_id tokenizer_class prefix
task_specific_params finetuning_task problem_type id2label label2id num_labels n_special
predict_special_tokens max_length min_length max_new_tokens do_sample early_stopping num_beams
num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty
length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids
num_return_sequences remove_invalid_values exponential_decay_length_penalty suppress_tokens
begin_suppress_tokens sequence_bias renormalize_logits penalty_alpha min_p guidance_scale max_time
num_beam_hyps low_memory use_return_dict loss_type xla_device device_map attribute_map
is_composition base_model_tp_plan base_model_pp_plan base_config_key sub_configs
bos_token eos_token pad_token unk_token sep_token cls_token mask_token padding_side
truncation_side model_max_length add_prefix_space add_bos_token
name name_or_path model_name base_model base_model_name_or_path author authors organization
description comment comments notes license license_name license_link language languages tags
pipeline_tag library_name citation url homepage repository created_at updated_at date datasets
dataset dataset_name metrics revision commit commit_hash seed epochs num_epochs num_train_epochs
learning_rate weight_decay batch_size warmup_steps max_steps optimizer unsloth_fixed
"""
NEUTRAL = frozenset(_NEUTRAL.split())
NEUTRAL_STARTS = ("_", "summary_", "training_", "train_", "wandb_", "transformers.js")
NEUTRAL_ENDS = ("_version", "_url", "_date", "_timestamp")


@dataclass(frozen=True, slots=True)
class GPT2Config:
    """What defines a GPT-2 besides its weights."""

    architecture: Architecture
    inner: int  # width of the MLP's hidden layer
    dropout: float  # in training only; 0 to below 1

    @classmethod
    def of(cls, backbone: Any) -> Self:
        """The config of a KerasHub backbone."""
        sizes = Architecture(
            vocabulary_size=backbone.vocabulary_size,
            context_window=backbone.max_sequence_length,
            layers=backbone.num_layers,
            heads=backbone.num_heads,
            width=backbone.hidden_dim,
        )
        return cls(sizes, backbone.intermediate_dim, backbone.dropout)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The config in `folder`. Raises CheckpointError, which names the field."""
        path = folder / CONFIG_FILE
        # What is null is as good as missing: transformers writes both.
        fields = {name: value for name, value in read_object(path).items() if value is not None}
        try:
            _require_known(fields)
            sizes = _architecture(fields)
            inner = _size({INNER: 4 * sizes.width} | fields, (INNER,))
            return cls(sizes, inner, _dropout(fields))
        except (TypeError, ValueError) as error:  # Architecture raises TypeError
            raise CheckpointError(f"{path}: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The fields of `config.json`."""
        sizes = self.architecture
        return {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": sizes.vocabulary_size,
            "n_layer": sizes.layers,
            "n_head": sizes.heads,
            "n_embd": sizes.width,
            "n_inner": self.inner,
            "n_positions": sizes.context_window,
            **dict.fromkeys(DROPOUTS, self.dropout),
            "layer_norm_epsilon": LAYER_NORM_EPSILON,
            "activation_function": "gelu_new",
        }


def _require_known(fields: dict[str, Any]) -> None:
    for name, allowed in COMPUTED_WITH.items():
        if name in fields and not any(_equal(fields[name], value) for value in allowed):
            expected = " or ".join(repr(value) for value in allowed) or "null"
            raise ValueError(
                f"{name} is {fields[name]!r}; only GPT-2 with {name} {expected} is supported"
            )
    architectures = fields.get("architectures", [])
    if not isinstance(architectures, list) or set(map(str, architectures)) - {*TRANSFORMERS_MODELS}:
        raise ValueError(
            f"architectures is {architectures!r}; only {' and '.join(TRANSFORMERS_MODELS)} are "
            "supported"
        )
    for name, value in fields.items():
        if not _is_known(name):
            raise ValueError(
                f"{name} is {value!r}, a field that GPT-2 does not have; if it changes nothing "
                "that the model computes, remove it, otherwise this is another model"
            )


def _is_known(name: str) -> bool:
    return (
        name in {*COMPUTED_WITH, *NEUTRAL, INNER, *DROPOUTS, *sum(SIZES.values(), ())}
        or name.startswith(NEUTRAL_STARTS)
        or name.endswith(NEUTRAL_ENDS)
    )


def _equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-6)  # float32's 1e-5 is 9.99999975e-06
    return type(found) is type(expected) and bool(found == expected)


def _architecture(fields: dict[str, Any]) -> Architecture:
    sizes = {size: _size(fields, names) for size, names in SIZES.items()}
    if sizes["width"] % sizes["heads"]:
        raise ValueError(
            f"n_head is {sizes['heads']}; it must divide n_embd, which is {sizes['width']}"
        )
    return Architecture(**sizes)


def _size(fields: dict[str, Any], names: tuple[str, ...]) -> int:
    found = {name: fields[name] for name in names if name in fields}
    if not found:
        raise ValueError(f"{names[0]} is missing")
    for name, value in found.items():
        if type(value) is not int or not 0 < value < MAX_SIZE:
            raise ValueError(f"{name} is {value!r}; it must be a whole number above 0")
    if len({*found.values()}) > 1:
        both = " and ".join(f"{name} {value}" for name, value in found.items())
        raise ValueError(f"it has {both}, which are one size; remove the wrong one")
    return int(found.popitem()[1])


def _dropout(fields: dict[str, Any]) -> float:
    """KerasHub has one for all three places, in training: the residual stream's."""
    for name in DROPOUTS:
        value = fields.get(name, DROPOUT)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise ValueError(f"{name} is {value!r}; it must be from 0 to below 1")
    return float(fields.get(DROPOUTS[0], DROPOUT))
