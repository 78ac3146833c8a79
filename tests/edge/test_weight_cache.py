"""Prepared weights in files: made once, used again, made anew whenever something is wrong."""

import errno
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_edge import DeviceModel, Manifest, ModelIncompatibleError
from edgewise_edge.runtime.backend import Backend
from edgewise_edge.runtime.open import open_model
from edgewise_edge.runtime.weight_cache import WeightCache
from edgewise_edge.store.manifest import MODEL_FILE, FileRecord

DAY = 24 * 3600.0
Logits = NDArray[np.float32]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder for prepared weights, which is not there yet."""
    return tmp_path / "a folder" / "weights"


@pytest.fixture
def kept(exact_folder: Path, weights: Path) -> WeightCache:
    """Where the tiny model's are kept."""
    return WeightCache(weights, Manifest.read(exact_folder).files[MODEL_FILE])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path | None]:
    """The files that the library was given, in order."""
    paths: list[Path | None] = []

    def noted(path: Path, threads: int, weight_cache: Path | None) -> Backend:
        paths.append(weight_cache)
        return open_model(path, threads, weight_cache)

    monkeypatch.setattr("edgewise_edge.runtime.session.open_model", noted)
    return paths


@pytest.fixture(scope="module")
def expected(exact_folder: Path) -> list[Logits]:
    """What the tiny model says without any file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WeightCache, "whole", lambda _self: False)
        patch.setattr("pathlib.Path.touch", read_only)
        return said(DeviceModel.load(exact_folder, threads=1, weight_cache=Path("/nowhere")))


def read_only(*_: object, **__: object) -> None:
    """What a call that changes a read-only file system does."""
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def said(model: DeviceModel) -> list[Logits]:
    """Logits of both signatures."""
    session = model.runtime.session()
    return [session.read(list(range(70))), session.read([7]), session.read([8, 9])]


def load(folder: Path, weights: Path) -> list[Logits]:
    """What the model says, loaded with prepared weights in `weights`."""
    return said(DeviceModel.load(folder, threads=1, weight_cache=weights))


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What shows whether a file was written or replaced, of the weights in a folder."""
    found = {path.name: path.stat() for path in folder.iterdir() if path.suffix != ".json"}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def assert_same(found: list[Logits], expected: list[Logits]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_second_load_uses_the_file_of_the_first(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    opened: list[Path | None],
) -> None:
    """It is made under another name, and neither loading nor running changes it afterwards."""
    assert not kept.whole()
    assert_same(load(exact_folder, weights), expected)
    assert kept.whole()
    made = state(weights)
    assert made[kept.path.name][1] > 10_000  # the tiny model's weights
    assert_same(load(exact_folder, weights), expected)
    assert state(weights) == made
    assert opened[0] not in {None, kept.path}
    assert opened[1:] == [kept.path]
    assert sorted(path.suffix for path in weights.iterdir()) == [".json", ".xnnpack"]


def test_models_do_not_share_a_file(tmp_path: Path) -> None:
    """Each has its own, by its sha256."""
    one, other = (
        WeightCache(tmp_path, FileRecord(1, "a" * 64)),
        WeightCache(tmp_path, FileRecord(1, "b" * 64)),
    )
    assert one.path != other.path
    assert one.path == WeightCache(tmp_path, FileRecord(1, "a" * 64)).path


def test_another_version_of_the_library_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so has another processor: their layouts may differ."""
    paths = {WeightCache(tmp_path, FileRecord(1, "a" * 64)).path}
    monkeypatch.setattr("ai_edge_litert.__version__", "99.9")
    paths.add(WeightCache(tmp_path, FileRecord(1, "a" * 64)).path)
    monkeypatch.setattr("edgewise_edge.runtime.weight_cache._processor", lambda: "flags: none")
    paths.add(WeightCache(tmp_path, FileRecord(1, "a" * 64)).path)
    assert len(paths) == 3


def cut_short(kept: WeightCache, _record: Path) -> None:
    data = kept.path.read_bytes()
    kept.path.write_bytes(data[: len(data) // 2])


def emptied(kept: WeightCache, _record: Path) -> None:
    kept.path.write_bytes(b"")


def flipped(kept: WeightCache, _record: Path) -> None:
    data = bytearray(kept.path.read_bytes())
    data[len(data) // 2 :] = bytes(byte ^ 0xFF for byte in data[len(data) // 2 :])
    kept.path.write_bytes(data)


def removed(kept: WeightCache, _record: Path) -> None:
    kept.path.unlink()


def record_removed(_kept: WeightCache, record: Path) -> None:
    record.unlink()


def record_of_another_size(_kept: WeightCache, record: Path) -> None:
    said = json.loads(record.read_text())
    record.write_text(json.dumps(said | {"size": said["size"] + 1}))


def record_saying(content: bytes) -> Callable[[WeightCache, Path], None]:
    def write(_kept: WeightCache, record: Path) -> None:
        record.write_bytes(content)

    return write


GARBAGE = [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b"{}", b'{"size": 1}', b'{"a": 1, "b": 2}']


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        emptied,
        flipped,
        removed,
        record_removed,
        record_of_another_size,
        *map(record_saying, GARBAGE),
    ],
)
def test_what_is_not_as_it_was_made_is_made_anew(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    opened: list[Path | None],
    damage: Callable[[WeightCache, Path], None],
) -> None:
    """The library is never given such a file, and the next one is used again."""
    load(exact_folder, weights)
    (record,) = weights.glob("*.json")
    damage(kept, record)
    assert not kept.whole()
    assert_same(load(exact_folder, weights), expected)
    assert kept.path not in opened
    assert kept.whole()
    assert_same(load(exact_folder, weights), expected)
    assert opened[2:] == [kept.path]


def test_a_damaged_file_is_replaced_under_those_who_use_it(
    exact_folder: Path, weights: Path, kept: WeightCache, expected: list[Logits]
) -> None:
    """A model that was loaded from a file goes on when that is made anew."""
    load(exact_folder, weights)
    model = DeviceModel.load(exact_folder, threads=1, weight_cache=weights)
    (record,) = weights.glob("*.json")
    record.unlink()
    load(exact_folder, weights)
    assert kept.whole()
    assert_same(said(model), expected)


@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "os.posix_fallocate"])
def test_a_folder_that_cannot_be_written_to_is_done_without(
    exact_folder: Path,
    weights: Path,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    """Loading says so once, and no more when it happens again."""
    monkeypatch.setattr(call, read_only)
    for _ in range(2):
        assert_same(load(exact_folder, weights), expected)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert str(weights) in warning.getMessage()
    assert "Read-only file system" in warning.getMessage()
    assert not weights.exists() or not list(weights.iterdir())


@pytest.mark.parametrize("parts", [(), ("weights",)])
def test_a_path_that_is_a_file_is_done_without(
    exact_folder: Path,
    tmp_path: Path,
    expected: list[Logits],
    caplog: pytest.LogCaptureFixture,
    parts: tuple[str, ...],
) -> None:
    """The folder itself, or the one it should be made in."""
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        assert_same(load(exact_folder, tmp_path.joinpath("file", *parts)), expected)
    assert len(caplog.records) == 1
    assert (tmp_path / "file").read_text() == "in the way"


def test_weights_that_were_kept_before_are_used_from_a_read_only_folder(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    opened: list[Path | None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """There is nothing to write, and nothing to warn of."""
    load(exact_folder, weights)
    for call in ("mkdir", "touch", "unlink", "replace", "write_text"):
        monkeypatch.setattr(f"pathlib.Path.{call}", read_only)
    monkeypatch.setattr("os.utime", read_only)
    load(exact_folder, weights)
    assert opened[1:] == [kept.path]
    assert not caplog.records


@pytest.mark.parametrize("call", ["replace", "write_text"])
def test_a_file_that_cannot_take_its_name_is_done_without(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    """It is removed again; and without its record it is not used."""
    with monkeypatch.context() as patch:
        patch.setattr(f"pathlib.Path.{call}", read_only)
        assert_same(load(exact_folder, weights), expected)
    assert len(caplog.records) == 1
    assert not kept.whole()
    assert not list(weights.glob("*.partial"))
    assert_same(load(exact_folder, weights), expected)
    assert kept.whole()


def test_what_an_interrupted_load_left_does_no_harm(
    exact_folder: Path, weights: Path, kept: WeightCache, expected: list[Logits]
) -> None:
    """Half a file under a name of its own, or a whole one without a record."""
    weights.mkdir(parents=True)
    left = weights / f".{'0' * 32}.partial"
    left.write_bytes(b"half")
    kept.path.write_bytes(b"whole, perhaps")
    assert_same(load(exact_folder, weights), expected)
    assert kept.whole()
    assert kept.path.stat().st_size > 10_000


def test_what_interrupted_loads_left_is_removed_in_time(exact_folder: Path, weights: Path) -> None:
    """It is as large as the model; but a load that is under way is left alone."""
    weights.mkdir(parents=True)
    old, new = weights / f".{'0' * 32}.partial", weights / f".{'1' * 32}.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 31 * DAY,) * 2)
    load(exact_folder, weights)
    assert not old.exists()
    assert new.exists()


def test_loads_at_once_in_threads_end_with_a_whole_file(
    exact_folder: Path, weights: Path, kept: WeightCache, expected: list[Logits]
) -> None:
    """Each of them says what it should."""
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: load(exact_folder, weights), range(4)):
            assert_same(found, expected)
    assert_same(load(exact_folder, weights), expected)
    assert kept.whole()
    assert len(list(weights.iterdir())) == 2


LOAD = """
import sys
from pathlib import Path
from edgewise_edge import DeviceModel
sys.stdin.readline()
model = DeviceModel.load(sys.argv[1], threads=1, weight_cache=Path(sys.argv[2]))
session = model.runtime.session()
session.read(list(range(70)))
print(session.read([7]).tobytes().hex())
"""


def test_loads_at_once_in_processes_end_with_a_whole_file(
    exact_folder: Path, weights: Path, kept: WeightCache, expected: list[Logits]
) -> None:
    """They know nothing of each other; whoever comes last finds nothing broken."""
    command = [sys.executable, "-c", LOAD, str(exact_folder), str(weights)]
    loads = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(len(loads)) as pool:
        answers = list(pool.map(lambda process: process.communicate("go\n", timeout=60), loads))
    for process, (out, _) in zip(loads, answers, strict=True):
        assert process.returncode == 0
        np.testing.assert_array_equal(np.frombuffer(bytes.fromhex(out), np.float32), expected[1])
    assert_same(load(exact_folder, weights), expected)
    assert kept.whole()
    assert len(list(weights.iterdir())) == 2


@pytest.fixture
def neighbours(weights: Path) -> dict[str, list[Path]]:
    """Weights of three other models, used so many days ago."""
    weights.mkdir(parents=True)
    files = {}
    for name, days in (("new", 0.0), ("aging", 29.0), ("old", 31.0)):
        files[name] = [weights / f"{name}{suffix}" for suffix in (".xnnpack", ".json")]
        for path in files[name]:
            path.write_text("{}")
            os.utime(path, (time.time() - days * DAY,) * 2)
    return files


def test_weights_unused_for_a_month_are_removed(
    exact_folder: Path, weights: Path, kept: WeightCache, neighbours: dict[str, list[Path]]
) -> None:
    """When another model's are made; those of newer ones stay."""
    load(exact_folder, weights)
    assert kept.whole()
    for name, paths in neighbours.items():
        assert [path.exists() for path in paths] == [name != "old"] * 2


def test_weights_in_use_are_kept_however_old(
    exact_folder: Path, weights: Path, kept: WeightCache, opened: list[Path | None]
) -> None:
    """Their last use counts, not when they were made."""
    load(exact_folder, weights)
    (record,) = weights.glob("*.json")
    os.utime(record, (time.time() - 40 * DAY,) * 2)
    load(exact_folder, weights)
    with WeightCache(weights, FileRecord(1, "b" * 64)).being_made() as path:
        assert path is not None
        path.write_bytes(b"another model's")
    assert kept.whole()
    assert opened[1:] == [kept.path]


def test_files_of_others_are_nobodys_business(exact_folder: Path, weights: Path) -> None:
    """In a folder that serves other purposes too, they are left alone, however old."""
    weights.mkdir(parents=True)
    others = [weights / name for name in ("manifest.json", "vocab.json", "notes.txt")]
    for path in others:
        path.write_text("{}")
        os.utime(path, (time.time() - 400 * DAY,) * 2)
    load(exact_folder, weights)
    assert [path.name for path in others if not path.exists()] == []


class Refusing:
    """A library that does not load with one kind of file."""

    def __init__(self, refused: Callable[[Path | None], bool]) -> None:
        self.refused = refused
        self.given: list[Path | None] = []

    def __call__(self, path: Path, threads: int, weight_cache: Path | None) -> Backend:
        self.given.append(weight_cache)
        if self.refused(weight_cache):
            raise RuntimeError("no such weights")
        return open_model(path, threads, weight_cache)


def test_a_library_that_cannot_use_the_file_makes_another(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file is whole, and yet it does not like it."""
    load(exact_folder, weights)
    before = state(weights)
    library = Refusing(lambda path: path == kept.path)
    monkeypatch.setattr("edgewise_edge.runtime.session.open_model", library)
    assert_same(load(exact_folder, weights), expected)
    assert [path == kept.path for path in library.given] == [True, False]
    assert library.given[1] is not None
    assert kept.whole()
    assert state(weights) != before


def test_a_library_that_cannot_write_a_file_loads_without(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing of its attempts stays."""
    library = Refusing(lambda path: path is not None)
    monkeypatch.setattr("edgewise_edge.runtime.session.open_model", library)
    assert_same(load(exact_folder, weights), expected)
    assert library.given[-1] is None
    assert not kept.whole()
    assert list(weights.iterdir()) == []


def test_a_full_disk_is_done_without(
    exact_folder: Path,
    weights: Path,
    kept: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """XNNPACK would abort the process: it is not let near a disk without room for its file."""
    asked = []

    def full(_descriptor: int, _offset: int, size: int) -> None:
        asked.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    assert_same(load(exact_folder, weights), expected)
    assert asked[0] > 2 * (exact_folder / MODEL_FILE).stat().st_size
    assert "No space left" in caplog.text
    assert not kept.whole()
    assert not list(weights.iterdir())


def test_a_model_that_does_not_load_at_all_says_why(
    exact_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With or without a file; and leaves none."""
    monkeypatch.setattr("edgewise_edge.runtime.session.open_model", Refusing(lambda _path: True))
    with pytest.raises(ModelIncompatibleError, match="no such weights"):
        load(exact_folder, weights)
    assert list(weights.iterdir()) == []
