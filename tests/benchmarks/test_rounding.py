"""The forward pass that benchmarks.cloud.rounding changes step by step."""

from pathlib import Path

import numpy as np

from benchmarks.cloud.rounding import model_of
from edgewise_cloud.keras_models.forward import logits
from edgewise_cloud.keras_models.read import read_checkpoint
from tests.conftest import write_checkpoint


def test_unrounded_it_is_gpt2(tmp_path: Path) -> None:
    """As the forward pass that checkpoints are checked with."""
    checkpoint = read_checkpoint(write_checkpoint(tmp_path / "tiny"))
    ids = np.arange(20, dtype=np.int32)
    tensors = {name: np.asarray(checkpoint.tensors[name]) for name in checkpoint.tensors}
    expected = logits(ids, tensors, checkpoint.config)
    np.testing.assert_allclose(model_of(checkpoint).logits(ids), expected, rtol=1e-4, atol=1e-5)
