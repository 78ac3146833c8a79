"""When a file of prepared weights is believed, compared, or written again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_edge.store import content_record
from edgewise_edge.store.manifest import FileRecord
from edgewise_edge.store.weight_cache import WeightCache

CONTENT = b"prepared weights" * 100


@pytest.fixture
def cache(tmp_path: Path) -> WeightCache:
    """With a file that has been written and published."""
    cache = WeightCache(tmp_path, FileRecord(1, "a" * 64))
    with cache.writing() as path:
        assert path
        path.write_bytes(CONTENT)
    return cache


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """An entry for each time that a file is read whole."""
    calls, digest = [], content_record.hashlib.file_digest

    def counted(file: object, name: str) -> object:
        calls.append(file)
        return digest(file, name)

    monkeypatch.setattr("hashlib.file_digest", counted)
    return calls


def change_unseen(path: Path) -> None:
    """Change the content, but neither size nor time."""
    before = path.stat()
    path.write_bytes(CONTENT[:-1] + b"S")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_the_content_is_not_read_again_while_nothing_has_touched_it(
    cache: WeightCache, hashed: list[object]
) -> None:
    """A load takes no longer for it."""
    assert cache.is_valid()
    assert not hashed


def test_a_change_under_the_same_size_and_time_is_found(cache: WeightCache) -> None:
    """By the sha256, which is compared because the inode has changed."""
    change_unseen(cache.path)
    assert not cache.is_valid()


def test_a_change_that_left_no_trace_is_found_after_the_next_start(
    cache: WeightCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the machine: a disk may have lost what was written."""
    state = content_record.state_of(cache.path)
    change_unseen(cache.path)
    with monkeypatch.context() as patch:
        patch.setattr(content_record, "state_of", lambda _path: state)
        assert cache.is_valid()
        patch.setattr(content_record, "state_of", lambda _path: "another start")
        assert not cache.is_valid()


def test_the_content_is_compared_once_in_each_run_of_the_machine(
    cache: WeightCache, hashed: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the sound file is kept."""
    monkeypatch.setattr(content_record, "machine_start", lambda: "another")
    for _ in range(3):
        assert cache.is_valid()
    assert len(hashed) == 2  # compared, and recorded


@pytest.mark.parametrize("suffix", [".xnnpack", ".json"])
def test_another_users_file_is_not_used(
    cache: WeightCache, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Weights decide what the model says; nor a link to one."""
    path = cache.path.with_suffix(suffix)
    moved = path.rename(path.with_name("moved"))
    path.symlink_to(moved)
    assert not cache.is_valid()
    path.unlink()
    moved.rename(path)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert not cache.is_valid()


CRASH = """
import os, signal, sys
from pathlib import Path
from edgewise_edge.store.weight_cache import WeightCache
from edgewise_edge.store.manifest import FileRecord
cache = WeightCache(Path(sys.argv[1]), FileRecord(1, "a" * 64))
assert cache.is_valid()
with cache.loading():
    if len(sys.argv) > 2:
        print("loading", flush=True)
        sys.stdin.readline()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_while_loading_has_the_file_written_again(cache: WeightCache) -> None:
    """It may have been the file's fault. Its mark is removed."""
    subprocess.run([sys.executable, "-c", CRASH, cache.path.parent], check=False)
    assert list(cache.path.parent.glob("*.loading"))
    assert not cache.is_valid()
    assert not cache.is_valid()
    with cache.writing() as path:
        assert path
        path.write_bytes(CONTENT)
    assert cache.is_valid()
    assert not list(cache.path.parent.glob("*.loading"))


def test_a_load_in_progress_is_no_crash(cache: WeightCache) -> None:
    """Another process may use the file meanwhile, and after it."""
    command = [sys.executable, "-c", CRASH, str(cache.path.parent), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()
        assert cache.is_valid()
        other.communicate(b"\n")
    assert cache.is_valid()
    assert not list(cache.path.parent.glob("*.loading"))
