"""The Keras model is compared with a plain NumPy forward pass of the checkpoint."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from keras_hub.models import GPT2Backbone

from edgewise_cloud.errors import CheckpointError
from edgewise_cloud.keras_models.checkpoint import assign_weights, weights
from edgewise_cloud.keras_models.forward import logits, require_same_logits
from edgewise_cloud.keras_models.hugging_face.config import GPT2Config
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from tests.support.checkpoints import Tensors


@pytest.fixture(scope="module")
def model(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> KerasModel:
    return load_keras(str(checkpoint), tmp_path_factory.mktemp("vocabulary"))


def _changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: change(tensors[name])}


@pytest.mark.parametrize(
    "change",
    [
        _changed("h.1.mlp.c_fc.bias", np.zeros_like),
        _changed("h.0.attn.c_proj.weight", np.transpose),
        _changed("h.0.attn.c_attn.weight", lambda kernel: np.roll(kernel, 16, axis=-1)),
        _changed("ln_f.weight", lambda gain: 1.01 * gain),
    ],
    ids=["a bias dropped", "a kernel transposed", "keys for queries", "a gain of 1 %"],
)
def test_a_model_that_was_read_wrongly_is_refused(
    model: KerasModel, change: Callable[[Tensors], Tensors]
) -> None:
    """Whichever tensor it is, by the logits."""
    right, config = dict(weights(model.backbone)), GPT2Config.of(model.backbone)
    require_same_logits(model.backbone, right, config, "tiny")
    with pytest.raises(CheckpointError, match="tiny: the logits of the Keras model differ"):
        require_same_logits(model.backbone, change(right), config, "tiny")


def test_another_definition_is_refused(model: KerasModel) -> None:
    """The number of heads is in no tensor's shape."""
    config = GPT2Config.of(model.backbone)
    heads = dataclasses.replace(
        config, architecture=dataclasses.replace(config.architecture, heads=4)
    )
    with pytest.raises(CheckpointError, match="differ"):
        require_same_logits(model.backbone, weights(model.backbone), heads, "tiny")


def test_weights_that_overflow_are_refused(model: KerasModel) -> None:
    """All are finite, but what they compute is not."""
    config = GPT2Config.of(model.backbone)
    tensors = weights(model.backbone)
    large = tensors | {"wte.weight": np.full_like(tensors["wte.weight"], 1e38)}
    with pytest.raises(CheckpointError, match="not finite"):
        require_same_logits(model.backbone, large, config, "tiny")


def test_the_width_of_the_mlp_is_free() -> None:
    """And weights that are assigned are the ones that are read."""
    backbone = GPT2Backbone(
        vocabulary_size=40,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=20,
        max_sequence_length=4,
    )
    config, generator = GPT2Config.of(backbone), np.random.default_rng(0)
    tensors = {
        name: generator.normal(size=value.shape).astype(np.float32)
        for name, value in weights(backbone).items()
    }
    assign_weights(backbone, tensors)
    require_same_logits(backbone, tensors, config, "tiny")
    for name, value in weights(backbone).items():
        np.testing.assert_array_equal(value, tensors[name])
    assert logits(np.arange(4, dtype=np.int32), tensors, config).shape == (4, 40)
