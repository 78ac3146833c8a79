"""A device model generates what the Keras model it was converted from does."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from keras_hub.models import GPT2Backbone
from safetensors.numpy import load_file, save_file

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.evaluate import PASSAGE, Evaluation, evaluate, keras_logits
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.errors import CheckpointError, ConversionError, TextError
from edgewise_cloud.keras_models.generation_config import save_sampling
from edgewise_cloud.keras_models.load import load_keras
from edgewise_edge import DeviceModel, Manifest
from edgewise_edge.errors import RequestError, RuntimeFailedError
from tests.conftest import CONTEXT, token_request, write_checkpoint


def compared(checkpoint: Path, folder: Path) -> Evaluation:
    """Evaluate the Keras model `checkpoint` and the device model in `folder` on a passage."""
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(checkpoint), Path(workspace))
    return evaluate(model, DeviceModel.load(folder).runtime, [PASSAGE], most_tokens=500)


def test_the_unquantized_model_agrees_with_keras(checkpoint: Path, exact_folder: Path) -> None:
    """Logits differ only by rounding, and the likeliest token is always the same."""
    # The folder's Keras weights are float16, the device model was made from float32.
    rounded = compared(exact_folder, exact_folder)
    assert rounded.largest_logit_difference < 0.01 * rounded.logit_spread
    exact = compared(checkpoint, exact_folder)
    assert exact.largest_logit_difference < 1e-4 * exact.logit_spread
    assert exact.top1_agreement > 0.99  # two tokens may be equal but for rounding
    assert exact.device.bits_per_byte == pytest.approx(exact.keras.bits_per_byte, rel=1e-5)


def test_int8_changes_logits_a_little(checkpoint: Path, tmp_path: Path) -> None:
    """The manifest has the evaluation."""
    made = convert(str(checkpoint), tmp_path / "int8", Quantization.INT8)
    evaluation = made.evaluation
    assert 0 < evaluation.largest_logit_difference < evaluation.logit_spread / 2
    written = Manifest.read(tmp_path / "int8").conversion
    assert written["quantize"] == "int8"
    assert written["target"] == "litert"
    assert written["lost"] == evaluation.bits_increase
    assert written["device"]["bits_per_byte"] == evaluation.device.bits_per_byte
    assert written["tokens"] == 1024
    assert made.manifest.memory > 0


def test_weights_out_of_float16_s_range_are_refused(tmp_path: Path) -> None:
    """Its maximum is 65,504; the model would compute NaN."""
    folder = write_checkpoint(tmp_path / "source")
    tensors = load_file(folder / "model.safetensors")
    tensors["h.0.mlp.c_fc.weight"][0, 0] = 1e5
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ConversionError, match="float16 cannot hold these weights"):
        convert(str(folder), tmp_path / "out", Quantization.FLOAT16)
    assert not (tmp_path / "out").exists()


def test_invalid_sampling_settings_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Before the conversion, not at the first generation."""
    with pytest.raises(RequestError, match="temperature is -1"):
        convert(
            str(checkpoint), tmp_path / "out", Quantization.NONE, sampling={"temperature": -1.0}
        )
    assert list(tmp_path.iterdir()) == []


def test_int4_needs_whole_blocks(checkpoint: Path, tmp_path: Path) -> None:
    """A width of 16 is half a block."""
    with pytest.raises(ConversionError, match="widths that 32 divides"):
        convert(str(checkpoint), tmp_path / "out", Quantization.INT4)
    assert list(tmp_path.iterdir()) == []


def test_a_keras_preset_folder_can_be_converted(checkpoint: Path, tmp_path: Path) -> None:
    """The format that KerasHub itself saves, and hub presets have."""
    from keras_hub.models import GPT2Tokenizer

    preset = tmp_path / "preset"
    GPT2Backbone.from_preset(str(checkpoint)).save_to_preset(str(preset))
    GPT2Tokenizer.from_preset(str(checkpoint)).save_to_preset(str(preset))
    made = convert(str(preset), tmp_path / "device", Quantization.NONE)
    assert made.evaluation.top1_agreement > 0.99  # two tokens may be equal but for rounding
    assert made.manifest.architecture.context_window == CONTEXT


def test_a_short_context_window_can_be_used_to_its_end(tmp_path: Path) -> None:
    """A window that is no multiple of the cache's granule works up to its last token."""
    folder = write_checkpoint(tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"wpe.weight": tensors["wpe.weight"][:40]}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config | {"n_positions": 40}))
    convert(str(folder), tmp_path / "device", Quantization.NONE)
    model = DeviceModel.load(tmp_path / "device", threads=1)
    for length in (1, 2, 39):
        wanted = token_request(list(range(length)), 40 - length)
        assert len(list(model.stream_tokens(wanted))) == 40 - length
    session = model.runtime.session()
    session.forward(list(range(38)))
    session.forward([7])
    session.forward([8])
    with pytest.raises(RuntimeFailedError, match="position 40"):
        session.forward([9])


def test_scores_are_keras_s_log_probabilities(checkpoint: Path, exact_folder: Path) -> None:
    """Of each token of a text, and of the likeliest ones there."""
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(checkpoint), Path(workspace))
    tokens = np.random.default_rng(3).integers(0, 264, 150).astype(np.int32)
    logits = keras_logits(model, tokens[:-1], 0).astype(np.float64)
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    scores = DeviceModel.load(exact_folder).score(tokens, top=20)[1:]
    found = [score.logprob for score in scores]
    np.testing.assert_allclose(found, expected[np.arange(149), tokens[1:]], atol=1e-3)
    likeliest = [[logprob for _, logprob in score.top] for score in scores]
    np.testing.assert_allclose(likeliest, -np.sort(-expected)[:, :20], atol=1e-3)


def test_a_device_model_has_signatures_for_any_length(exact_folder: Path) -> None:
    """One for a single token, two for many; the length of the caches is dynamic in all."""
    model = DeviceModel.load(exact_folder)
    assert sorted(model.runtime.backend.signatures) == ["decode", "prefill", "score"]
    session, whole = model.runtime.session(), model.runtime.session()
    expected = whole.forward(list(range(100)))
    for size in (1, 37, 2, 59, 1):
        found = session.forward(list(range(session.position, session.position + size)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_existing_folder_is_never_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    """Not even an empty one."""
    with pytest.raises(ConversionError, match="exists already"):
        convert(str(checkpoint), tmp_path, Quantization.NONE)


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the folder nor a temporary one."""
    with pytest.raises(CheckpointError):
        convert("no-such-model", tmp_path / "out", Quantization.NONE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["a checkpoint", "a device model with Keras weights"])
def test_recommended_sampling_settings_are_kept(
    checkpoint: Path, exact_folder: Path, tmp_path: Path, kind: str
) -> None:
    """Settings given to convert() override those of what it converts."""
    recommended = {"top_k": 5, "temperature": 0.5}
    if kind == "a checkpoint":
        folder = Path(shutil.copytree(checkpoint, tmp_path / "source"))
        save_sampling(recommended, folder)
    else:
        folder = Path(shutil.copytree(exact_folder, tmp_path / "source"))
        replace(Manifest.read(folder), sampling=recommended).write(folder)
    made = convert(str(folder), tmp_path / "out", Quantization.NONE, sampling={"temperature": 0.9})
    assert made.manifest.sampling == {"top_k": 5, "temperature": 0.9}


def test_a_text_too_short_to_evaluate_on_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """And leaves no folder."""
    with pytest.raises(TextError, match="give more"):
        convert(str(checkpoint), tmp_path / "out", Quantization.NONE, documents=["a"])
    assert not (tmp_path / "out").exists()
