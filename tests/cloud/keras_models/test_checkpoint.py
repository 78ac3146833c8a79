"""Saving a checkpoint in Hugging Face's layout."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from edgewise_cloud.keras_models.checkpoint import save_checkpoint
from edgewise_cloud.keras_models.load import load_keras
from tests.cloud.conftest import FullDisk


def test_a_saved_checkpoint_has_the_weights_that_were_loaded(
    checkpoint: Path, tmp_path: Path
) -> None:
    """Every tensor of a Hugging Face folder, unchanged."""
    model = load_keras(str(checkpoint), tmp_path)
    save_checkpoint(model.backbone, tmp_path)
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor)


def test_a_full_disk_leaves_no_partial_checkpoint(
    checkpoint: Path, tmp_path: Path, full_disk: FullDisk
) -> None:
    """Saving fails and leaves the weights that were there before, if any."""
    backbone = load_keras(str(checkpoint), tmp_path).backbone
    out = tmp_path / "model"
    out.mkdir()
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        save_checkpoint(backbone, out)
    assert [path.name for path in out.iterdir()] == ["config.json"]
    save_checkpoint(backbone, out, dtype="float16")
    before = (out / "model.safetensors").read_bytes()
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        save_checkpoint(backbone, out)
    assert (out / "model.safetensors").read_bytes() == before
    assert {path.name for path in out.iterdir()} == {"config.json", "model.safetensors"}
