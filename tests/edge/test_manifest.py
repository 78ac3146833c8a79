"""Manifests, and model folders that do not match them."""

import dataclasses
import json
import os
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
    Tokenizer,
    complete,
)
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord
from edgewise_edge.trial import try_model

SHAPE = {"vocabulary_size": 264, "context_window": 192, "layers": 2, "heads": 2, "width": 16}


@pytest.fixture
def folder(exact_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model, to be broken."""
    return Path(shutil.copytree(exact_folder, tmp_path / "model"))


def test_reading_gives_back_what_was_written(folder: Path) -> None:
    """All fields survive."""
    manifest = dataclasses.replace(Manifest.read(folder), name="other", sampling={"top_k": 3})
    manifest.write(folder)
    assert Manifest.read(folder) == manifest


def test_a_truncated_model_is_refused(folder: Path) -> None:
    """The file is named, with what to do."""
    data = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(data[:-100])
    with pytest.raises(ModelCorruptError, match=r"cut short.*convert the model again"):
        DeviceModel.load(folder)


def test_a_changed_model_is_refused(folder: Path) -> None:
    """By its sha256, if the size is the same."""
    data = bytearray((folder / MODEL_FILE).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / MODEL_FILE).write_bytes(data)
    with pytest.raises(ModelCorruptError, match="sha256"):
        complete("a", model=folder)


def test_a_broken_model_with_a_matching_manifest_fails_its_trial(folder: Path) -> None:
    """If it crashes LiteRT, it crashes the child process only."""
    data = (folder / MODEL_FILE).read_bytes()
    (folder / MODEL_FILE).write_bytes(data[: len(data) // 2])
    manifest = Manifest.read(folder)
    files = manifest.files | {MODEL_FILE: FileRecord.of(folder / MODEL_FILE)}
    dataclasses.replace(manifest, files=files).write(folder)
    with pytest.raises(ModelIncompatibleError):
        try_model(folder)


def test_an_intact_model_passes_its_trial(exact_folder: Path) -> None:
    """It runs every signature, and returns the memory that took."""
    assert try_model(exact_folder) > 0


def test_a_file_that_is_not_tflite_is_refused(folder: Path) -> None:
    """Its identifier is checked before LiteRT sees it."""
    (folder / MODEL_FILE).write_bytes(b"no model at all")
    manifest = Manifest.read(folder)
    files = manifest.files | {MODEL_FILE: FileRecord.of(folder / MODEL_FILE)}
    dataclasses.replace(manifest, files=files).write(folder)
    with pytest.raises(ModelIncompatibleError, match="not a TFLite model"):
        DeviceModel.load(folder)


@pytest.mark.parametrize("name", ["manifest.json", MODEL_FILE, "vocab.json", "merges.txt"])
def test_a_fifo_is_refused(folder: Path, name: str) -> None:
    """Reading it would wait for ever."""
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ModelCorruptError, match="not a regular file"):
        DeviceModel.load(folder)


def test_a_missing_file_is_named(folder: Path) -> None:
    """A model without its vocabulary."""
    (folder / "vocab.json").unlink()
    with pytest.raises(ModelCorruptError, match=r"vocab\.json is missing"):
        DeviceModel.load(folder)


def test_a_folder_without_a_manifest_is_not_a_model(tmp_path: Path) -> None:
    """The error says how to make a model."""
    with pytest.raises(ModelNotFoundError, match="edgewise-cloud convert"):
        DeviceModel.load(tmp_path)


@pytest.mark.parametrize("name", ["no-such-model", "~nobody/x", "x" * 300, "a\0b", ""])
def test_an_unknown_name_lists_the_bundled_models(name: str) -> None:
    """So that the caller can choose one."""
    with pytest.raises(ModelError, match=r"bundled: .*tales|not a model folder"):
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
        *(({"architecture": SHAPE | {name: 2**31}}, ModelCorruptError) for name in SHAPE),
        ({"architecture": SHAPE | {"heads": True}}, ModelCorruptError),
        ({"architecture": None}, ModelCorruptError),
        ({"memory": -1}, ModelCorruptError),
        ({"memory": 2**63}, ModelCorruptError),
        ({"memory": float("nan")}, ModelCorruptError),
        ({"name": "a\x1b[2J"}, ModelCorruptError),
        ({"revision": "\ud800"}, ModelCorruptError),
        ({"name": "x" * 201}, ModelCorruptError),
        ({"x" * 10**5: 1}, ModelCorruptError),
        ({"format": "x" * 10**5}, ModelIncompatibleError),
        ({"sampling": {"temperature": -1}}, ModelCorruptError),
        ({"sampling": {"temperature": None}}, ModelCorruptError),
        ({"sampling": {"humour": 1}}, ModelCorruptError),
        ({"files": {"model.tflite": {"size": 1, "sha256": "../x"}}}, ModelCorruptError),
        ({"files": {"model.tflite": {"size": -1, "sha256": "0" * 64}}}, ModelCorruptError),
    ],
)
def test_a_broken_manifest_is_refused(
    folder: Path, change: dict[str, object], error: type[Exception]
) -> None:
    """For other formats, and missing, unknown or invalid fields. The message quotes little of it."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error) as refused:
        Manifest.read(folder)
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("content", ["", '{"format": 1', "[" * 10**5, "1" * 10**4, " " * 2**21])
def test_a_manifest_that_is_not_json_is_refused(folder: Path, content: str) -> None:
    """Half a file, for example, one that nests without end, or one that is too large."""
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ModelCorruptError, match="cannot be read"):
        Manifest.read(folder)


def test_a_vocabulary_other_than_the_manifests_is_refused(folder: Path) -> None:
    """Its files may be intact, but the fingerprint differs."""
    dataclasses.replace(Manifest.read(folder), vocabulary="0" * 64).write(folder)
    with pytest.raises(ModelIncompatibleError, match="fingerprint"):
        DeviceModel.load(folder)


def test_a_vocabulary_larger_than_the_model_is_refused(folder: Path) -> None:
    """A prompt with its last token would be outside the model's."""
    path, manifest = folder / "vocab.json", Manifest.read(folder)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"qqq": SHAPE["vocabulary_size"]}))
    vocabulary = Tokenizer.from_folder(folder).fingerprint
    files = manifest.files | {path.name: FileRecord.of(path)}
    dataclasses.replace(manifest, files=files, vocabulary=vocabulary).write(folder)
    with pytest.raises(ModelCorruptError, match="has the id 264, but its model only 264 tokens"):
        load_tokenizer(folder, Manifest.read(folder))


def test_models_with_the_same_vocabulary_share_a_tokenizer(
    exact_folder: Path, folder: Path
) -> None:
    """While one of them is in use; the files of each are verified."""
    first = load_tokenizer(exact_folder, Manifest.read(exact_folder))
    assert load_tokenizer(folder, Manifest.read(folder)) is first
    (folder / "vocab.json").write_bytes(b" " * (folder / "vocab.json").stat().st_size)
    with pytest.raises(ModelCorruptError, match="sha256 differs"):
        load_tokenizer(folder, Manifest.read(folder))
