"""Crash marks: files that are locked while a revision on probation is being loaded or run.

The system releases the lock when the process dies: a mark without one is a crash.
"""

import atexit
import os
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from edgewise_edge.installed.files import disk
from edgewise_edge.installed.files.lock import try_lock

_MARK = ".starting-"
_held: dict[Path, list[tuple[Path, int]]] = {}  # by model folder: this process's marks
_lock = threading.Lock()


def leave(model: Path, revision: str) -> None:
    """Mark that `revision` is being started. The caller holds the store's lock. Raises OSError."""
    mark = model / f"{_MARK}{uuid.uuid4().hex}-{revision}"
    descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try_lock(descriptor)
    disk.sync(model)
    with _lock:
        if not _held:
            atexit.register(_remove_all)  # a process that ends by itself has not crashed
        _held.setdefault(model, []).append((mark, descriptor))


def remove(model: Path) -> bool:
    """Remove the last mark that this process left; whether there was one."""
    with _lock:
        marks = _held.get(model)
        mark = marks.pop() if marks else None
    if mark is None:
        return False
    _remove(*mark)
    return True


def crashed(model: Path) -> Iterator[str]:
    """The revision of each mark whose process has died; each is removed when the next is asked for.

    The caller holds the store's lock. Raises OSError.
    """
    for mark in sorted(model.glob(f"{_MARK}*")):
        with suppress(FileNotFoundError):  # it has just ended well
            descriptor = os.open(mark, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if try_lock(descriptor) and mark.exists():
                    yield mark.name.removeprefix(_MARK).partition("-")[2]
                    os.unlink(mark)  # noqa: PTH108
            finally:
                os.close(descriptor)


def _remove(mark: Path, descriptor: int) -> None:
    with suppress(OSError):
        os.unlink(mark)  # noqa: PTH108
    os.close(descriptor)  # last: a mark without a lock is a crash


def _remove_all() -> None:
    for model in list(_held):
        while remove(model):
            pass
