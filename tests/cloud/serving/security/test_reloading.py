"""Files that are read again, by a thread of their own."""

import threading
import weakref
from pathlib import Path

import pytest

from edgewise_cloud.serving.security import reloading
from edgewise_cloud.serving.security.reloading import Reloaded
from tests.support.generate_requests import until


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "CHECK_INTERVAL", 0.01)


def test_a_call_does_not_wait_for_a_file(tmp_path: Path) -> None:
    """While it is read again, the last result is in use."""
    file, results = tmp_path / "file", iter(["first", "second"])
    started, may_end = threading.Event(), threading.Event()
    may_end.set()

    def read() -> str:
        started.set()
        may_end.wait()
        return next(results)

    reloaded = Reloaded([file], read)
    started.clear()
    may_end.clear()
    file.touch()
    started.wait()
    assert reloaded() == "first"
    may_end.set()
    until(lambda: reloaded() == "second")


def test_a_reader_that_fails_is_called_again(tmp_path: Path) -> None:
    """Whatever it raises."""
    file, results = tmp_path / "file", iter(["first", MemoryError(), "second"])

    def read() -> str:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    reloaded = Reloaded([file], read)
    file.write_text("a")
    until(lambda: results.__length_hint__() == 1)
    assert reloaded() == "first"
    file.write_text("longer")
    until(lambda: reloaded() == "second")


def test_nobody_watches_files_that_nobody_uses(tmp_path: Path) -> None:
    """The thread ends with its object."""
    before = set(threading.enumerate())
    reloaded = Reloaded([tmp_path], lambda: "value")
    (thread,) = set(threading.enumerate()) - before
    gone = weakref.ref(reloaded)
    del reloaded
    thread.join()
    assert gone() is None
