"""Checkpoints that cannot be loaded."""

import json
import shutil
from pathlib import Path

import pytest

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.load import load_keras
from tests.conftest import write_checkpoint


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "holds no Keras model"),
        ("config.json", "{", "holds no Keras model"),
        ("config.json", "[]", "holds no Keras model"),
        ("config.json", '{"model_type": "bert"}', "'bert' model; only GPT-2"),
        ("model.safetensors", None, "cannot be read"),
        ("model.safetensors", "garbage", "cannot be read"),
        ("vocab.json", None, "cannot be read"),
    ],
)
def test_a_missing_or_invalid_file_is_a_checkpoint_error(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    """The message says what is wrong."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        load_keras(str(folder), tmp_path)


def test_a_vocabulary_larger_than_the_embedding_is_refused(tmp_path: Path) -> None:
    """It has tokens for which the weights have no row."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    ids = json.loads((folder / "vocab.json").read_text())
    ids["extra"] = len(ids)
    (folder / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_keras(str(folder), tmp_path)


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
