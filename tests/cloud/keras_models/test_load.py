"""Checkpoints as people have them: loaded as they are meant, or refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.errors import CheckpointError, ConversionError
from edgewise_cloud.keras_models.load import load_keras
from tests.conftest import CONTEXT, LAYERS, write_checkpoint
from tests.support.checkpoints import (
    Tensors,
    move_vocabulary,
    remove_fields,
    update_json,
    update_tensors,
)


def test_what_people_have_is_loaded(tmp_path: Path) -> None:
    """An MLP of another width, n_ctx, no dropout, tokenizer.json alone, and another end token."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    remove_fields(folder / "config.json", "n_positions", "resid_pdrop")
    update_json(folder / "config.json", n_ctx=CONTEXT, n_inner=40, eos_token_id=263)
    update_tensors(folder, _narrower)
    move_vocabulary(folder)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(text.replace("<|endoftext|>", "</s>"))
    model = load_keras(str(folder), tmp_path)
    assert model.backbone.intermediate_dim == 40
    assert model.architecture.context_window == CONTEXT
    assert model.tokenizer.end_ids == {263}
    out = tmp_path / "device"
    assert convert(str(folder), out, Quantization.NONE).evaluation.top1_agreement > 0.99
    with pytest.raises(ConversionError, match="widths that 32 divides"):
        convert(str(folder), tmp_path / "int4", Quantization.INT4)


def _narrower(tensors: Tensors) -> Tensors:
    """An MLP of 40 instead of 64."""
    for layer in range(LAYERS):
        name = f"h.{layer}.mlp"
        tensors[f"{name}.c_fc.weight"] = tensors[f"{name}.c_fc.weight"][:, :40]
        tensors[f"{name}.c_fc.bias"] = tensors[f"{name}.c_fc.bias"][:40]
        tensors[f"{name}.c_proj.weight"] = tensors[f"{name}.c_proj.weight"][:40]
    return {name: np.ascontiguousarray(value) for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("name", "factor", "message"),
    [("lm_head.weight", 2, "tied head"), ("wte.weight", np.nan, "NaN or infinite")],
)
def test_a_checkpoint_that_would_become_another_model_is_refused(
    tmp_path: Path, name: str, factor: float, message: str
) -> None:
    """No later step would tell: the device is compared with Keras only."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    update_tensors(folder, lambda tensors: tensors | {name: factor * tensors["wte.weight"]})
    with pytest.raises(CheckpointError, match=message):
        convert(str(folder), tmp_path / "out", Quantization.NONE)
    assert not (tmp_path / "out").exists()


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    """It has tokens for which the weights have no row."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    ids = json.loads((folder / "vocab.json").read_text())
    ids["extra"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_keras(str(folder), tmp_path)


def test_an_address_of_keras_hub_must_have_its_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KerasHub reads Hugging Face's too, and would compute GPT-2's activation for another one."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    update_json(folder / "config.json", activation_function="relu")
    monkeypatch.setattr("kagglehub.model_download", lambda _handle, path: str(folder / path))
    with pytest.raises(CheckpointError, match="is in Hugging Face's layout, which is read from"):
        load_keras("kaggle://someone/gpt2/keras/relu", tmp_path)
    (folder / "config.json").write_text('{"registered_name": "keras_hub>BertBackbone"}')
    with pytest.raises(CheckpointError, match="holds a 'keras_hub>BertBackbone'; only GPT-2"):
        load_keras("kaggle://someone/bert/keras/base", tmp_path)


def test_weights_that_differ_from_the_manifest_are_refused(
    exact_folder: Path, tmp_path: Path
) -> None:
    """Where there is a manifest, it has the sha256 of the Keras weights too."""
    folder = Path(shutil.copytree(exact_folder, tmp_path / "copy"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="sha256"):
        load_keras(str(folder), tmp_path)
