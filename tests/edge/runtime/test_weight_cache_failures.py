"""Loading works without prepared weights: unusable folders, full disks, failing libraries."""

import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from edgewise_edge import ModelIncompatibleError
from edgewise_edge.runtime.backend import Backend
from edgewise_edge.store.manifest import MODEL_FILE
from edgewise_edge.store.weight_cache import WeightCache
from tests.edge.runtime.backends import Opener
from tests.edge.runtime.weights import Logits, assert_same, load, read_only


@pytest.mark.parametrize("call", ["pathlib.Path.mkdir", "os.posix_fallocate"])
def test_an_unwritable_folder_is_not_used(
    exact_folder: Path,
    weights: Path,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    """One warning is logged, and none when it happens again."""
    monkeypatch.setattr(call, read_only)
    for _ in range(2):
        assert_same(load(exact_folder, weights), expected)
    (warning,) = caplog.records
    assert warning.levelno == logging.WARNING
    assert str(weights) in warning.getMessage()
    assert "Read-only file system" in warning.getMessage()
    assert not weights.exists() or not list(weights.iterdir())


@pytest.mark.parametrize("parts", [(), ("weights",)])
def test_a_file_in_place_of_the_folder_is_left_alone(
    exact_folder: Path,
    tmp_path: Path,
    expected: list[Logits],
    caplog: pytest.LogCaptureFixture,
    parts: tuple[str, ...],
) -> None:
    """Or in place of its parent."""
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        assert_same(load(exact_folder, tmp_path.joinpath("file", *parts)), expected)
    assert len(caplog.records) == 1
    assert (tmp_path / "file").read_text() == "in the way"


WRITING_A_RECORD = "edgewise_edge.store.content_record.write_text"


def test_existing_weights_are_used_from_a_read_only_folder(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    opener: Opener,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without a warning, since there is nothing to write."""
    load(exact_folder, weights)
    for call in ("mkdir", "unlink", "replace"):
        monkeypatch.setattr(f"pathlib.Path.{call}", read_only)
    monkeypatch.setattr(WRITING_A_RECORD, read_only)
    monkeypatch.setattr("os.utime", read_only)
    load(exact_folder, weights)
    assert opener.weight_caches[1:] == [cache.path]
    assert not caplog.records


@pytest.mark.parametrize("call", ["pathlib.Path.replace", WRITING_A_RECORD])
def test_a_file_that_cannot_be_published_is_not_used(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    """The partial file is removed; without its record a file is not valid."""
    with monkeypatch.context() as patch:
        patch.setattr(call, read_only)
        assert_same(load(exact_folder, weights), expected)
    assert len(caplog.records) == 1
    assert not cache.is_valid()
    assert not list(weights.glob("*.partial"))
    assert_same(load(exact_folder, weights), expected)
    assert cache.is_valid()


def test_a_full_disk_is_not_written_to(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """XNNPACK would abort the process, so space for its file is checked first."""
    sizes = []

    def full(_descriptor: int, _offset: int, size: int) -> None:
        sizes.append(size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.posix_fallocate", full)
    assert_same(load(exact_folder, weights), expected)
    assert sizes[0] > 2 * (exact_folder / MODEL_FILE).stat().st_size
    assert "No space left" in caplog.text
    assert not cache.is_valid()
    assert not list(weights.iterdir())


class RefusingOpener(Opener):
    """A library that fails to load with some files of weights."""

    def __init__(self, refuses: Callable[[Path | None], bool]) -> None:
        super().__init__()
        self.refuses = refuses

    def open(self, path: Path, threads: int, weight_cache: Path | None) -> Backend:
        if self.refuses(weight_cache):
            raise RuntimeError("no such weights")
        return super().open(path, threads, weight_cache)


def test_a_file_that_the_library_refuses_is_written_again(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Although it is valid."""
    load(exact_folder, weights)
    before = cache.path.stat().st_ino
    library = RefusingOpener(lambda path: path == cache.path)
    library.install(monkeypatch)
    assert_same(load(exact_folder, weights), expected)
    assert [path == cache.path for path in library.weight_caches] == [True, False]
    assert library.weight_caches[1] is not None
    assert cache.is_valid()
    assert cache.path.stat().st_ino != before


def test_a_library_that_cannot_write_a_file_loads_without_one(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And leaves none behind."""
    library = RefusingOpener(lambda path: path is not None)
    library.install(monkeypatch)
    assert_same(load(exact_folder, weights), expected)
    assert library.weight_caches[-1] is None
    assert not cache.is_valid()
    assert list(weights.iterdir()) == []


def test_a_model_that_never_loads_says_why(
    exact_folder: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves no file behind."""
    RefusingOpener(lambda _path: True).install(monkeypatch)
    with pytest.raises(ModelIncompatibleError, match="no such weights"):
        load(exact_folder, weights)
    assert list(weights.iterdir()) == []
