"""Fields of `config.json`: each that changes what is computed is honoured, or refused by name."""

import json
import os
from pathlib import Path

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
from edgewise_edge.store.manifest import Architecture
from tests.support.checkpoints import remove_fields, update_json

FIELDS = {"vocab_size": 64, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_positions": 32}
SIZES = Architecture(vocabulary_size=64, context_window=32, layers=2, heads=2, width=16)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    update_json(path, **FIELDS)
    return path


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("activation_function", "relu"),
        ("activation_function", "gelu"),  # the exact one: GPT-2's is an approximation
        ("activation_function", "quick_gelu"),
        ("layer_norm_epsilon", 1e-6),
        ("layer_norm_epsilon", "1e-5"),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("auto_map", {"AutoModelForCausalLM": "modeling.My"}),
        ("architectures", ["GPT2ForSequenceClassification"]),
        ("architectures", "GPT2LMHeadModel"),
        ("model_type", "gpt_neo"),
        ("model_type", ["gpt2"]),
        ("position_embedding_type", "rotary"),
        ("causal", False),
        ("rope_theta", 10000.0),
        ("num_key_value_heads", 1),
        ("sliding_window", 16),
        ("logit_scale", 0.5),
        ("final_logit_softcapping", 30.0),
        ("hidden_act", "relu"),
        ("use_bias", False),
        ("parallel_residual", True),
        ("adapters", {"mine": {}}),
        ("num_experts", 4),
        ("n_head", 3),
        ("n_head", 0),
        ("n_layer", True),
        ("n_embd", 16.0),
        ("vocab_size", "64"),
        ("n_positions", 2**40),
        ("n_ctx", 16),
        ("hidden_size", 32),
        ("n_inner", -1),
        ("resid_pdrop", 1.5),
        ("attn_pdrop", "none"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(config: Path, field: str, value: object) -> None:
    """The message has the field and its value."""
    update_json(config, **{field: value})
    with pytest.raises(CheckpointError) as refused:
        GPT2Config.read(config.parent)
    assert f"{field} " in str(refused.value)
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("field", FIELDS)
def test_a_size_must_be_given(config: Path, field: str) -> None:
    """No size has a default: another model's would fit by chance."""
    remove_fields(config, field)
    with pytest.raises(CheckpointError, match=f"{field} is missing"):
        GPT2Config.read(config.parent)
    update_json(config, **{field: None})
    with pytest.raises(CheckpointError, match=f"{field} is missing"):
        GPT2Config.read(config.parent)


def test_sizes_are_read_under_all_their_names(config: Path) -> None:
    """Those of transformers' other models too, and the n_ctx of old files."""
    remove_fields(config, *FIELDS)
    update_json(config, vocab_size=64, n_ctx=32, hidden_size=16)
    update_json(config, num_hidden_layers=2, num_attention_heads=2)
    assert GPT2Config.read(config.parent) == GPT2Config(SIZES, inner=64, dropout=0.1)


def test_the_width_of_the_mlp_and_dropout_are_honoured(config: Path) -> None:
    """n_inner, and resid_pdrop for KerasHub's one dropout."""
    update_json(config, n_inner=40, resid_pdrop=0, embd_pdrop=0.5)
    assert GPT2Config.read(config.parent) == GPT2Config(SIZES, inner=40, dropout=0.0)


def test_what_transformers_writes_is_read(config: Path) -> None:
    """All of the fields of OpenAI's own model, and notes."""
    theirs = {
        "activation_function": "gelu_new",
        "architectures": ["GPT2LMHeadModel"],
        "attn_pdrop": 0.1,
        "bos_token_id": 50256,
        "embd_pdrop": 0.1,
        "eos_token_id": 50256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05,
        "model_type": "gpt2",
        "n_ctx": 32,
        "n_inner": None,
        "resid_pdrop": 0.1,
        "summary_activation": None,
        "summary_first_dropout": 0.1,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "_name_or_path": "gpt2",
        "torch_dtype": "float32",
        "transformers_version": "4.40.0",
    }
    update_json(config, **theirs)
    assert GPT2Config.read(config.parent).architecture == SIZES
    update_json(config, layer_norm_epsilon=9.999999747378752e-06)  # float32's 1e-5
    assert GPT2Config.read(config.parent).architecture == SIZES


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("_name_or_path", "me/mine"),
        ("transformers_version", "5.0.0"),
        ("torch_dtype", "bfloat16"),
        ("dtype", "float16"),
        ("task_specific_params", {"text-generation": {"temperature": 0.7}}),
        ("transformers.js_config", {"use_external_data_format": True}),
        ("unsloth_version", "2025.1"),
        ("name_or_path", "gpt2"),
        ("license", "mit"),
        ("language", ["en", "fr"]),
        ("training_args", {"lr": 1e-4}),
        ("created_at", "2025-01-01"),
        ("eos_token", "<|endoftext|>"),
        ("model_max_length", 1024),
        ("loss_type", "ForCausalLMLoss"),
        ("attn_implementation", "sdpa"),
        ("min_p", 0.1),
    ],
)
def test_notes_are_read_over(config: Path, field: str, value: object) -> None:
    """They change nothing that the model computes."""
    update_json(config, **{field: value})
    assert GPT2Config.read(config.parent).architecture == SIZES


def test_a_config_is_read_as_it_is_saved(tmp_path: Path) -> None:
    """With every field."""
    config = GPT2Config(SIZES, inner=40, dropout=0.25)
    (tmp_path / "config.json").write_text(json.dumps(config.to_json()))
    assert GPT2Config.read(tmp_path) == config


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\0"])
def test_what_is_no_json_object_is_refused(config: Path, text: str) -> None:
    """The message names the file."""
    config.write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        GPT2Config.read(config.parent)


def test_a_pipe_is_refused(config: Path) -> None:
    """Opening it would wait for a writer for good."""
    config.unlink()
    os.mkfifo(config)
    with pytest.raises(CheckpointError, match="no file"):
        GPT2Config.read(config.parent)
