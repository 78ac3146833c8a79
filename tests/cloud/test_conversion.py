"""Keras models of every origin become device models that say the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras_hub.models import GPT2Backbone
from safetensors.numpy import load_file

from edgewise_cloud.agreement import measure_agreement
from edgewise_cloud.checkpoint import save_checkpoint
from edgewise_cloud.conversion import convert
from edgewise_cloud.errors import ConversionError, SourceError, TextError
from edgewise_cloud.quantization import Quantization
from edgewise_cloud.sources import load_keras
from edgewise_edge import DeviceModel, Manifest, find_model
from edgewise_edge.manifest import MODEL_FILE
from tests.conftest import CONTEXT, write_checkpoint


def test_the_unquantised_model_is_the_keras_model(checkpoint: Path, exact_folder: Path) -> None:
    """Logits differ by rounding alone, and the likeliest token is always the same."""
    model = load_keras(str(exact_folder), exact_folder.parent)
    agreement = measure_agreement(model, exact_folder)
    # The folder's Keras weights are float16, the device model was made from float32.
    assert agreement.largest_logit_difference < 0.01 * agreement.logit_spread
    exact = measure_agreement(load_keras(str(checkpoint), checkpoint), exact_folder)
    assert exact.largest_logit_difference < 1e-4 * exact.logit_spread
    assert exact.top1_agreement == 1.0


def test_int8_stays_close(checkpoint: Path, tmp_path: Path) -> None:
    """Quantised weights move the logits a little, and the manifest says how much."""
    manifest, agreement = convert(str(checkpoint), tmp_path / "int8", Quantization.INT8)
    assert 0 < agreement.largest_logit_difference < agreement.logit_spread / 2
    made = Manifest.read(tmp_path / "int8").conversion
    assert made["quantize"] == "int8"
    assert made["top1_agreement"] == agreement.top1_agreement
    assert manifest.memory > 0


def test_int8_takes_a_third_of_the_size(tmp_path: Path) -> None:
    """Of the bundled model: a quarter for the weights, and what does not shrink."""
    convert("tales", tmp_path / "none", Quantization.NONE)
    convert("tales", tmp_path / "int8", Quantization.INT8)
    sizes = {
        name: Manifest.read(tmp_path / name).files[MODEL_FILE].size for name in ("none", "int8")
    }
    assert sizes["int8"] < 0.35 * sizes["none"]


def test_the_tied_embedding_is_stored_once() -> None:
    """One buffer serves the lookup and the head."""
    folder = find_model("tales")
    shape = Manifest.read(folder).architecture
    data = (folder / MODEL_FILE).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    sizes = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    assert sizes.count(shape.vocabulary_size * shape.width) == 1
    assert max(sizes) == shape.vocabulary_size * shape.width


@pytest.mark.parametrize("name", ["tales", "exact"])
def test_only_builtin_ops_are_used(name: str, exact_folder: Path) -> None:
    """No Flex and no custom ops: any TFLite runtime can run it."""
    folder = exact_folder if name == "exact" else find_model("tales")
    data = (folder / MODEL_FILE).read_bytes()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data))
    assert model.operatorCodes
    for code in model.operatorCodes:
        assert code.builtinCode != schema.BuiltinOperator.CUSTOM
        assert code.customCode is None


def test_a_hugging_face_folder_keeps_its_weights(checkpoint: Path, tmp_path: Path) -> None:
    """Loading it and saving it again gives back every tensor."""
    model = load_keras(str(checkpoint), tmp_path)
    save_checkpoint(model.backbone, tmp_path)
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tmp_path / "model.safetensors")
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        np.testing.assert_array_equal(after[name], tensor)


def test_a_keras_preset_folder_can_be_converted(checkpoint: Path, tmp_path: Path) -> None:
    """What KerasHub itself saves, as a hub preset would be."""
    from keras_hub.models import GPT2Tokenizer

    preset = tmp_path / "preset"
    GPT2Backbone.from_preset(str(checkpoint)).save_to_preset(str(preset))
    GPT2Tokenizer.from_preset(str(checkpoint)).save_to_preset(str(preset))
    manifest, agreement = convert(str(preset), tmp_path / "device", Quantization.NONE)
    assert agreement.top1_agreement == 1.0
    assert manifest.architecture.context_window == CONTEXT


def test_a_short_context_window_needs_one_bucket(tmp_path: Path) -> None:
    """A window below the smallest bucket still works to its last token."""
    source = write_checkpoint(tmp_path / "short")
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    from safetensors.numpy import save_file

    save_file(tensors | {"wpe.weight": tensors["wpe.weight"][:40]}, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(config | {"n_positions": 40}))
    convert(str(source), tmp_path / "device", Quantization.NONE)
    model = DeviceModel.load(tmp_path / "device", threads=1)
    assert model.runtime.buckets == [40]


def test_an_existing_folder_is_never_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    """Not even an empty one."""
    with pytest.raises(ConversionError, match="exists already"):
        convert(str(checkpoint), tmp_path, Quantization.NONE)


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the folder nor its unfinished form."""
    with pytest.raises(SourceError):
        convert("no-such-model", tmp_path / "out", Quantization.NONE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", None, "holds no Keras model"),
        ("config.json", "{", "holds no Keras model"),
        ("config.json", '{"model_type": "bert"}', "'bert' model; only GPT-2"),
        ("model.safetensors", None, "cannot be read"),
        ("model.safetensors", "garbage", "cannot be read"),
        ("vocab.json", None, "cannot be read"),
    ],
)
def test_sources_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    """Each is a SourceError that says what is wrong."""
    source = write_checkpoint(tmp_path / "source")
    (source / name).unlink()
    if content is not None:
        (source / name).write_text(content)
    with pytest.raises(SourceError, match=words):
        load_keras(str(source), tmp_path)


def test_weights_too_small_for_the_vocabulary(tmp_path: Path) -> None:
    """A vocabulary with more tokens than the weights have rows."""
    source = write_checkpoint(tmp_path / "source")
    ids = json.loads((source / "vocab.json").read_text())
    ids["extra"] = len(ids)
    (source / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(SourceError, match="do not belong together"):
        load_keras(str(source), tmp_path)


def test_a_changed_checkpoint_of_ours_is_refused(exact_folder: Path, tmp_path: Path) -> None:
    """Where there is a manifest, its sha256 counts for the Keras weights too."""
    folder = Path(shutil.copytree(exact_folder, tmp_path / "copy"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(SourceError, match="sha256"):
        load_keras(str(folder), tmp_path)


def test_what_the_source_recommends_is_kept(exact_folder: Path, tmp_path: Path) -> None:
    """And what the converter is told comes on top."""
    source = Path(shutil.copytree(exact_folder, tmp_path / "source"))
    manifest = Manifest.read(source)
    replace(manifest, sampling={"top_k": 5, "temperature": 0.5}).write(source)
    made, _ = convert(
        str(source), tmp_path / "out", Quantization.NONE, sampling={"temperature": 0.9}
    )
    assert made.sampling == {"top_k": 5, "temperature": 0.9}


def test_a_text_too_short_to_compare_on(checkpoint: Path, tmp_path: Path) -> None:
    """One token says nothing about agreement."""
    with pytest.raises(TextError, match="give more"):
        convert(str(checkpoint), tmp_path / "out", Quantization.NONE, text="a")
    assert not (tmp_path / "out").exists()
