"""Compiled programs kept between starts: what is loaded, and above all what is not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgewise_cloud.serving.model import program_cache
from edgewise_cloud.serving.model.program_cache import ProgramCache, use_program_cache
from edgewise_edge.store import files

CODE = b"as good as machine code"


@contextmanager
def opened(folder: Path, key: str = "here") -> Iterator[ProgramCache]:
    cache = ProgramCache(folder, key)
    yield cache
    cache.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One in which an earlier start has kept the program `step`."""
    with opened(tmp_path / "programs") as cache, cache.compiling():
        cache.keep("step", CODE)
    return tmp_path / "programs"


def kept(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def test_the_next_start_finds_what_was_kept(folder: Path) -> None:
    """And publishes nothing again; no private folder is left."""
    with opened(folder) as cache:
        assert cache.read("step") == CODE
        with cache.compiling():
            pass
    assert len(kept(folder)) == 1


def test_another_machine_or_version_does_not_find_it(folder: Path) -> None:
    """Each has files of its own."""
    with opened(folder, "elsewhere") as cache:
        assert cache.read("step") is None


@pytest.mark.parametrize("content", [b"", CODE[:-1], CODE + b"!", b"as good as machine c0de"])
def test_a_damaged_file_is_not_loaded(folder: Path, content: bytes) -> None:
    """It is removed, and a later start may keep it anew."""
    kept(folder)[0].write_bytes(content)
    with opened(folder) as cache:
        assert cache.read("step") is None
        with cache.compiling():
            cache.keep("step", CODE)
    with opened(folder) as cache:
        assert cache.read("step") == CODE


def test_a_file_of_another_user_is_not_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor one that is a link."""
    (path,) = kept(folder)
    monkeypatch.setattr(program_cache, "is_ours", lambda each: each.name != path.name)
    with opened(folder) as cache:
        assert cache.read("step") is None
    monkeypatch.setattr(program_cache, "is_ours", files.is_ours)
    path.rename(folder.with_name("elsewhere"))
    path.symlink_to(folder.with_name("elsewhere"))
    with opened(folder) as cache:
        assert cache.read("step") is None


def test_a_folder_in_which_others_can_write_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning, and every start compiles."""
    folder.chmod(0o777)
    monkeypatch.setattr(program_cache, "cache_folder", lambda: folder.parent)
    monkeypatch.setattr(program_cache, "sys", type("Sys", (), {"modules": {}}))
    use_program_cache()
    assert program_cache.current() is None
    assert "others can write to it" in caplog.text


def test_its_size_is_limited(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not used for longest is removed first; so are folders of killed processes, not of others."""
    with opened(folder) as cache, cache.compiling():
        cache.keep("newer", CODE)
    killed, alive = ProgramCache(folder, "here").private, ProgramCache(folder, "here")
    for path in (killed, alive.private, *(path for path in kept(folder) if "-step." in path.name)):
        os.utime(path, (1, 1))
    monkeypatch.setattr(program_cache, "MAX_SIZE", len(CODE))
    with opened(folder) as cache:
        assert cache.read("newer") == CODE
        assert cache.read("step") is None
        assert not killed.exists()
        assert alive.private.exists()


def test_processes_that_start_at_once_share_it(folder: Path) -> None:
    """Each sees what was there when it began, and keeps what it compiles."""
    with opened(folder) as one, opened(folder) as other:
        for cache, names in ((one, "ac"), (other, "abc")):
            with cache.compiling():
                for name in names:
                    cache.keep(name, name.encode())
    with opened(folder) as cache:
        assert [cache.read(name) for name in "abc"] == [b"a", b"b", b"c"]


def test_nothing_is_published_while_a_thread_still_compiles(folder: Path) -> None:
    """Its file may be half written."""
    with opened(folder) as cache, cache.compiling():
        cache.keep("half", CODE[:3])
        with cache.compiling():
            cache.keep("whole", CODE)
        assert len(kept(folder)) == 2  # `step`, and the private folder
        cache.keep("half", CODE)
    with opened(folder) as cache:
        assert cache.read("half") == cache.read("whole") == CODE


def test_what_may_have_made_a_compilation_fail_is_removed(folder: Path) -> None:
    """So that the next start does not fail, too."""
    with opened(folder) as cache, pytest.raises(RuntimeError), cache.compiling():
        raise RuntimeError("of the library")
    with opened(folder) as cache:
        assert cache.read("step") is None
