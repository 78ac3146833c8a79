"""Manifests: what they say, and files that are not what they say."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from edgewise_edge import (
    DeviceModel,
    Manifest,
    ModelCorruptError,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    complete,
)
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord
from edgewise_edge.trial import try_model

SHAPE = {"vocabulary_size": 264, "context_window": 192, "layers": 2, "heads": 2, "width": 16}


@pytest.fixture
def folder(exact_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model to break."""
    return Path(shutil.copytree(exact_folder, tmp_path / "model"))


def test_it_reads_what_it_wrote(folder: Path) -> None:
    """Reading gives back what was written."""
    manifest = dataclasses.replace(Manifest.read(folder), name="other", sampling={"top_k": 3})
    manifest.write(folder)
    assert Manifest.read(folder) == manifest


def test_a_truncated_model_is_refused(folder: Path) -> None:
    """A file cut short is named, with what to do."""
    data = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(data[:-100])
    with pytest.raises(ModelCorruptError, match=r"cut short.*convert the model again"):
        DeviceModel.load(folder)


def test_a_changed_model_is_refused(folder: Path) -> None:
    """The same size but another sha256."""
    data = bytearray((folder / MODEL_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(data)
    with pytest.raises(ModelCorruptError, match="sha256"):
        complete("a", model=folder)


def test_a_truncated_model_with_a_matching_manifest_does_not_pass_its_trial(folder: Path) -> None:
    """Whatever LiteRT does with it, crash included, happens to the child process."""
    data = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(data[: len(data) // 2])
    manifest = Manifest.read(folder)
    files = manifest.files | {MODEL_FILE: FileRecord.of(folder / MODEL_FILE)}
    dataclasses.replace(manifest, files=files).write(folder)
    with pytest.raises(ModelIncompatibleError):
        try_model(folder)


def test_a_whole_model_passes_its_trial(exact_folder: Path) -> None:
    """It runs in every signature, and says what memory that took."""
    assert try_model(exact_folder) > 0


def test_something_that_is_no_tflite_is_refused(folder: Path) -> None:
    """The identifier is looked at before LiteRT is."""
    (folder / MODEL_FILE).write_bytes(b"no model at all")
    manifest = Manifest.read(folder)
    files = manifest.files | {MODEL_FILE: FileRecord.of(folder / MODEL_FILE)}
    dataclasses.replace(manifest, files=files).write(folder)
    with pytest.raises(ModelIncompatibleError, match="not a TFLite model"):
        DeviceModel.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    """A model without its vocabulary."""
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelCorruptError, match=r"vocab\.json is missing"):
        DeviceModel.load(folder)


def test_a_folder_without_a_manifest_is_no_model(tmp_path: Path) -> None:
    """The error says how to make one."""
    with pytest.raises(ModelNotFoundError, match="edgewise-cloud convert"):
        DeviceModel.load(tmp_path)


@pytest.mark.parametrize("name", ["no-such-model", "~nobody/x", "x" * 300, "a\0b", ""])
def test_an_unknown_name_lists_the_bundled_models(name: str) -> None:
    """Which is what the reader wants to know."""
    with pytest.raises(ModelError, match=r"tales|not a model folder"):
        DeviceModel.load(name)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": 99}, ModelIncompatibleError),
        ({"files": None}, ModelCorruptError),
        ({"surprise": 1}, ModelCorruptError),
        ({"architecture": {}}, ModelCorruptError),
        ({"memory": "much"}, ModelCorruptError),
        ({"sampling": []}, ModelCorruptError),
        ({"files": {"model.tflite": {"size": "x", "sha256": ""}}}, ModelCorruptError),
        ({"architecture": SHAPE | {"heads": 0}}, ModelCorruptError),
        ({"architecture": SHAPE | {"layers": "2"}}, ModelCorruptError),
        ({"architecture": SHAPE | {"width": 15}}, ModelCorruptError),
    ],
)
def test_a_broken_manifest_is_refused(
    folder: Path, change: dict[str, object], error: type[Exception]
) -> None:
    """Other formats and missing or unknown fields."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error):
        Manifest.read(folder)


def test_a_manifest_that_is_no_json_is_refused(folder: Path) -> None:
    """Half a file, say."""
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ModelCorruptError, match="cannot be read"):
        Manifest.read(folder)


def test_the_vocabulary_must_be_the_manifests(folder: Path) -> None:
    """A manifest of one vocabulary beside the files of another."""
    dataclasses.replace(Manifest.read(folder), vocabulary="0" * 64).write(folder)
    with pytest.raises(ModelIncompatibleError, match="fingerprint"):
        DeviceModel.load(folder)
