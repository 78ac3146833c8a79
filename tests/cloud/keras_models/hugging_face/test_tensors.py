"""Tensors of a checkpoint: all must be known, finite and of the shapes that `config.json` states."""

import json
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
from edgewise_cloud.keras_models.hugging_face.tensors import CheckpointTensors
from tests.conftest import write_checkpoint
from tests.support.checkpoints import Tensors, update_json, update_tensors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path / "checkpoint")


def read(folder: Path) -> Tensors:
    tensors = CheckpointTensors(folder, GPT2Config.read(folder))
    tensors.require_tied()
    return dict(tensors)


def _without(name: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {key: value for key, value in tensors.items() if key != name}


def _with(name: str, value: float) -> Callable[[Tensors], Tensors]:
    def change(tensors: Tensors) -> Tensors:
        tensors[name].flat[0] = value
        return tensors

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda all_: all_ | {"lm_head.weight": all_["wte.weight"] + 1}, "lm_head.weight is not"),
        (_with("h.1.mlp.c_fc.bias", np.nan), r"h\.1\.mlp\.c_fc\.bias has values that are NaN"),
        (_with("wpe.weight", -np.inf), r"wpe\.weight has values that are NaN or infinite"),
        (lambda all_: all_ | {"ln_f.bias": np.full(16, 1e300)}, r"ln_f\.bias has values that are"),
        (lambda all_: all_ | {"wte.weight": all_["wte.weight"][1:]}, r"wte\.weight has the shape"),
        (_without("h.0.attn.c_attn.bias"), r"lacks h\.0\.attn\.c_attn\.bias"),
        (_without("wte.weight"), r"no GPT-2"),
        (lambda all_: all_ | {"h.0.attn.q_norm.weight": np.ones(2)}, r"q_norm\.weight"),
        (lambda all_: all_ | {"lm_head.bias": np.ones(2)}, r"lm_head\.bias"),
        (lambda all_: all_ | {"ln_f.bias": np.ones(16, np.int8)}, r"ln_f\.bias is stored as I8"),
    ],
)
def test_tensors_of_another_model_are_refused_by_name(
    folder: Path, change: Callable[[Tensors], Tensors], message: str
) -> None:
    """A head of its own, NaN, another shape or type, one too few or too many."""
    update_tensors(folder, change)
    with pytest.raises(CheckpointError, match=message):
        read(folder)


@pytest.mark.parametrize(
    ("layers", "message"), [(1, "n_layer"), (3, "n_layer"), (10**9, "layers is 1000000000")]
)
def test_a_wrong_number_of_layers_is_refused(folder: Path, layers: int, message: str) -> None:
    """Too few of them would leave out half of the model."""
    update_json(folder / "config.json", n_layer=layers)
    with pytest.raises(CheckpointError, match=message):
        read(folder)


def test_an_embedding_stored_twice_is_tied(folder: Path) -> None:
    """Some tools write the head as well, and attention's masks."""
    expected = load_file(folder / "model.safetensors")
    others = {"lm_head.weight": expected["wte.weight"], "h.0.attn.bias": np.tri(4)}
    update_tensors(folder, lambda tensors: tensors | others)
    found = read(folder)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["wte.weight"], expected["wte.weight"])


def test_tensors_are_found_with_a_prefix_and_in_several_files(folder: Path) -> None:
    """As transformers writes large models."""
    expected = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stored = {f"transformer.{name}": value for name, value in expected.items()}
    files = dict.fromkeys(stored, "model-1.safetensors") | {
        "transformer.ln_f.bias": "model-2.safetensors"
    }
    for file in set(files.values()):
        save_file({name: stored[name] for name in stored if files[name] == file}, folder / file)
    update_json(folder / "model.safetensors.index.json", weight_map=files)
    found = read(folder)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-2\.safetensors is missing"):
        read(folder)


@pytest.mark.parametrize("files", [None, {"wte.weight": "../model.safetensors"}, {"wte.weight": 1}])
def test_an_index_names_files_of_its_folder(folder: Path, files: object) -> None:
    """Nothing else is read."""
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    with pytest.raises(CheckpointError, match="weight_map"):
        read(folder)


def test_bfloat16_is_read(folder: Path) -> None:
    """NumPy itself does not know it."""
    expected = load_file(folder / "model.safetensors")["wte.weight"].astype(ml_dtypes.bfloat16)
    update_tensors(folder, lambda tensors: tensors | {"wte.weight": expected})
    np.testing.assert_array_equal(read(folder)["wte.weight"], expected.astype(np.float32))
