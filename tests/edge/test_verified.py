"""When a model's file is read to compare it with its manifest, and when a record is believed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise_edge.errors import ModelCorruptError
from edgewise_edge.store import content_record, verified
from edgewise_edge.store.catalog import find_model
from edgewise_edge.store.manifest import FileRecord, Manifest

NAME = "weights"


class Model:
    """A folder with one file, and its manifest."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / NAME
        folder.mkdir(mode=0o755)
        self.file.write_bytes(b"a" * 100)
        self.file.chmod(0o644)
        self.manifest = replace(
            Manifest.read(find_model("tales")), files={NAME: FileRecord.of(self.file)}
        )

    def verify(self) -> None:
        verified.verify_once(self.manifest, self.folder, NAME)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Whose file was verified, as if it had been written long ago."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(verified, "_SETTLED", -60.0)
    made = Model(tmp_path / "model")
    made.verify()
    return made


@pytest.fixture
def read(model: Model, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An entry for each time that the file is read."""
    calls, of = [], FileRecord.of

    def counted(path: Path) -> FileRecord:
        calls.append(path)
        return of(path)

    monkeypatch.setattr(FileRecord, "of", counted)
    return calls


def test_a_file_is_not_read_again_while_nothing_has_touched_it(
    model: Model, read: list[Path]
) -> None:
    """A cold start takes no longer for its size; a link to its folder leads to the same record."""
    model.verify()
    link = model.folder.with_name("link")
    link.symlink_to(model.folder)
    verified.verify_once(model.manifest, link, NAME)
    assert not read


def test_a_changed_file_is_noticed(model: Model) -> None:
    """Under the same size and time too, and in place of the one that was verified."""
    before = model.file.stat()
    with model.file.open("rb+") as file:
        file.write(b"b")
    os.utime(model.file, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(ModelCorruptError, match="sha256 differs"):
        model.verify()
    other = model.file.with_name("other")
    other.write_bytes(b"c" * 100)
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(model.file)
    with pytest.raises(ModelCorruptError, match="sha256 differs"):
        model.verify()


def test_another_manifest_has_the_file_read(model: Model) -> None:
    """The record is of a content, not of a path."""
    model.manifest = replace(model.manifest, files={NAME: FileRecord(100, "0" * 64)})
    with pytest.raises(ModelCorruptError, match="sha256 differs"):
        model.verify()


def test_a_record_of_another_start_of_the_machine_is_not_trusted(
    model: Model, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is read once, and its record replaced."""
    monkeypatch.setattr(content_record, "machine_start", lambda: "another")
    model.verify()
    model.verify()
    assert len(read) == 1


@pytest.mark.parametrize("name", [NAME, "."])
def test_what_others_may_write_to_is_read_each_time(
    model: Model, read: list[Path], name: str
) -> None:
    """The file, or its folder, where they could put another in its place."""
    path = model.folder / name
    path.chmod(path.stat().st_mode | 0o002)
    model.verify()
    model.verify()
    assert len(read) == 2


def test_a_file_that_has_just_changed_is_not_remembered(
    model: Model, read: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second change in the same tick of the clock would not show."""
    monkeypatch.setattr(verified, "_SETTLED", 60.0)
    model.verify()
    model.verify()
    assert len(read) == 2


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"size": 1}'])
def test_a_damaged_record_is_no_record(model: Model, read: list[Path], content: str) -> None:
    """It is written again."""
    (record,) = model.folder.parent.glob("caches/edgewise/verified/*")
    record.write_text(content)
    model.verify()
    model.verify()
    assert len(read) == 1


def test_another_users_record_is_not_trusted(model: Model, read: list[Path]) -> None:
    """Nor a link to one: it would say that anything was verified."""
    (record,) = model.folder.parent.glob("caches/edgewise/verified/*")
    moved = record.rename(record.with_name("moved"))
    record.symlink_to(moved)
    model.verify()
    assert len(read) == 1
