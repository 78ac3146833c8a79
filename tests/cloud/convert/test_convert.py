"""Keras models of every origin become device models that say the same."""

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from keras_hub.models import GPT2Backbone
from safetensors.numpy import load_file, save_file

from edgewise_cloud.convert.convert import convert
from edgewise_cloud.convert.evaluate import PASSAGE, Evaluation, evaluate
from edgewise_cloud.convert.flatbuffer import parsed
from edgewise_cloud.convert.quantization import Quantization
from edgewise_cloud.errors import CheckpointError, ConversionError, TextError
from edgewise_cloud.keras_models.checkpoint import save_checkpoint
from edgewise_cloud.keras_models.load import load_keras
from edgewise_edge import DeviceModel, Manifest, find_model
from edgewise_edge.errors import RequestError, RuntimeFailedError
from edgewise_edge.store.manifest import MODEL_FILE
from tests.conftest import CONTEXT, token_request, write_checkpoint


def compared(source: Path, folder: Path) -> Evaluation:
    """The Keras model in `source` and the device model in `folder`, over a passage."""
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(str(source), Path(workspace))
    return evaluate(model, DeviceModel.load(folder).runtime, [PASSAGE])


def test_the_unquantised_model_is_the_keras_model(checkpoint: Path, exact_folder: Path) -> None:
    """Logits differ by rounding alone, and the likeliest token is always the same."""
    # The folder's Keras weights are float16, the device model was made from float32.
    rounded = compared(exact_folder, exact_folder)
    assert rounded.largest_logit_difference < 0.01 * rounded.logit_spread
    exact = compared(checkpoint, exact_folder)
    assert exact.largest_logit_difference < 1e-4 * exact.logit_spread
    assert exact.top1_agreement > 0.99  # two may be equal but for rounding
    assert exact.device.bits_per_byte == pytest.approx(exact.keras.bits_per_byte, rel=1e-5)


def test_int8_stays_close(checkpoint: Path, tmp_path: Path) -> None:
    """Quantised weights move the logits a little, and the manifest says how much."""
    manifest, evaluation = convert(str(checkpoint), tmp_path / "int8", Quantization.INT8)
    assert 0 < evaluation.largest_logit_difference < evaluation.logit_spread / 2
    made = Manifest.read(tmp_path / "int8").conversion
    assert made["quantize"] == "int8"
    assert made["target"] == "litert"
    assert made["lost"] == evaluation.lost
    assert made["device"]["bits_per_byte"] == evaluation.device.bits_per_byte
    assert manifest.memory > 0


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[Quantization, Path]:
    """The bundled model in every form."""
    folder = tmp_path_factory.mktemp("forms")
    for quantization in Quantization:
        convert("tales", folder / quantization, quantization)
    return {quantization: folder / quantization for quantization in Quantization}


def test_fewer_bits_make_a_smaller_file(forms: dict[Quantization, Path]) -> None:
    """By what the weights shrink; the graph and the scales do not."""
    size = {form: (folder / MODEL_FILE).stat().st_size for form, folder in forms.items()}
    assert size[Quantization.FLOAT16] < 0.55 * size[Quantization.NONE]
    assert size[Quantization.INT8] < 0.3 * size[Quantization.NONE]
    assert size[Quantization.INT4] < 0.62 * size[Quantization.INT8]


@pytest.mark.parametrize(
    ("form", "bytes_per_weight"),
    [("none", 4), ("float16", 2), ("int8", 1), ("int4", 0.5)],
)
def test_the_tied_embedding_is_stored_once(
    forms: dict[Quantization, Path], form: str, bytes_per_weight: float
) -> None:
    """One buffer serves the lookup and the head, and is the largest."""
    folder = forms[Quantization(form)]
    shape = Manifest.read(folder).architecture
    model = parsed((folder / MODEL_FILE).read_bytes())
    sizes = [len(buffer.data) for buffer in model.buffers if buffer.data is not None]
    table = shape.vocabulary_size * shape.width * bytes_per_weight
    assert sizes.count(table) == 1
    assert max(sizes) == table


def test_fewer_bits_lose_little(forms: dict[Quantization, Path]) -> None:
    """Of what the bundled model knows, as its manifests say."""
    lost = {form: Manifest.read(folder).conversion["lost"] for form, folder in forms.items()}
    assert abs(lost[Quantization.NONE]) < 1e-6
    assert abs(lost[Quantization.FLOAT16]) < 1e-3
    assert abs(lost[Quantization.INT8]) < 0.005
    assert abs(lost[Quantization.INT4]) < 0.03


def test_weights_that_a_form_cannot_hold_are_refused(tmp_path: Path) -> None:
    """Float16 ends at 65,504; what would answer NaN is no model."""
    source = write_checkpoint(tmp_path / "source")
    tensors = load_file(source / "model.safetensors")
    tensors["h.0.mlp.c_fc.weight"][0, 0] = 1e5
    save_file(tensors, source / "model.safetensors")
    with pytest.raises(ConversionError, match="float16 cannot hold these weights"):
        convert(str(source), tmp_path / "out", Quantization.FLOAT16)
    assert not (tmp_path / "out").exists()


def test_settings_that_mean_nothing_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Before any work, not when somebody generates."""
    with pytest.raises(RequestError, match="temperature is -1"):
        convert(
            str(checkpoint), tmp_path / "out", Quantization.NONE, sampling={"temperature": -1.0}
        )
    assert list(tmp_path.iterdir()) == []


def test_int4_needs_whole_blocks(checkpoint: Path, tmp_path: Path) -> None:
    """A width of 16 is half a block."""
    with pytest.raises(ConversionError, match="width that 32 divides"):
        convert(str(checkpoint), tmp_path / "out", Quantization.INT4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tales", "exact"])
def test_only_builtin_ops_are_used(name: str, exact_folder: Path) -> None:
    """No Flex and no custom ops: any TFLite runtime can run it."""
    folder = exact_folder if name == "exact" else find_model("tales")
    model = parsed((folder / MODEL_FILE).read_bytes())
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
    manifest, evaluation = convert(str(preset), tmp_path / "device", Quantization.NONE)
    assert evaluation.top1_agreement > 0.99  # two may be equal but for rounding
    assert manifest.architecture.context_window == CONTEXT


def test_a_short_context_window_can_be_used_to_its_end(tmp_path: Path) -> None:
    """A window that is no whole number of granules works to its last token, and no further."""
    source = write_checkpoint(tmp_path / "short")
    config = json.loads((source / "config.json").read_text())
    tensors = load_file(source / "model.safetensors")
    save_file(tensors | {"wpe.weight": tensors["wpe.weight"][:40]}, source / "model.safetensors")
    (source / "config.json").write_text(json.dumps(config | {"n_positions": 40}))
    convert(str(source), tmp_path / "device", Quantization.NONE)
    model = DeviceModel.load(tmp_path / "device", threads=1)
    for length in (1, 2, 39):
        wanted = token_request(list(range(length)), 40 - length)
        assert len(list(model.stream_tokens(wanted))) == 40 - length
    session = model.runtime.session()
    session.read(list(range(38)))
    session.read([7])
    session.read([8])
    with pytest.raises(RuntimeFailedError, match="position 40"):
        session.read([9])


def test_a_device_model_offers_two_signatures_of_any_length(exact_folder: Path) -> None:
    """One for a token, one for many; the caches' length is free in both."""
    model = DeviceModel.load(exact_folder)
    assert sorted(model.runtime.backend.signatures) == ["decode", "prefill"]
    session, whole = model.runtime.session(), model.runtime.session()
    expected = whole.read(list(range(100)))
    for size in (1, 37, 2, 59, 1):
        found = session.read(list(range(session.position, session.position + size)))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_an_existing_folder_is_never_overwritten(checkpoint: Path, tmp_path: Path) -> None:
    """Not even an empty one."""
    with pytest.raises(ConversionError, match="exists already"):
        convert(str(checkpoint), tmp_path, Quantization.NONE)


def test_a_failed_conversion_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the folder nor its unfinished form."""
    with pytest.raises(CheckpointError):
        convert("no-such-model", tmp_path / "out", Quantization.NONE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
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
def test_sources_that_cannot_be_read(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    """Each is a CheckpointError that says what is wrong."""
    source = write_checkpoint(tmp_path / "source")
    (source / name).unlink()
    if content is not None:
        (source / name).write_text(content)
    with pytest.raises(CheckpointError, match=words):
        load_keras(str(source), tmp_path)


def test_weights_too_small_for_the_vocabulary(tmp_path: Path) -> None:
    """A vocabulary with more tokens than the weights have rows."""
    source = write_checkpoint(tmp_path / "source")
    ids = json.loads((source / "vocab.json").read_text())
    ids["extra"] = len(ids)
    (source / "vocab.json").write_text(json.dumps(ids))
    with pytest.raises(CheckpointError, match="do not belong together"):
        load_keras(str(source), tmp_path)


def test_a_changed_checkpoint_of_ours_is_refused(exact_folder: Path, tmp_path: Path) -> None:
    """Where there is a manifest, its sha256 counts for the Keras weights too."""
    folder = Path(shutil.copytree(exact_folder, tmp_path / "copy"))
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match="sha256"):
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
    """One token says nothing."""
    with pytest.raises(TextError, match="give more"):
        convert(str(checkpoint), tmp_path / "out", Quantization.NONE, documents=["a"])
    assert not (tmp_path / "out").exists()
