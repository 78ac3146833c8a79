"""Crash marks: files that are locked while a revision on probation is being loaded or run.

The system releases the lock when the process dies: a mark without one is a crash. Its name says whether
the process had come as far as a first token.
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

_STARTING, _RUNNING = ".starting-", ".running-"
_held: dict[Path, list[tuple[Path, int]]] = {}  # by model folder: this process's marks
_lock = threading.Lock()


def leave(model: Path, revision: str) -> None:
    """Mark that `revision` is being started. The caller holds the store's lock. Raises OSError."""
    mark = model / f"{_STARTING}{uuid.uuid4().hex}-{revision}"
    descriptor = os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try_lock(descriptor)
    disk.sync(model)
    with _lock:
        if not _held:
            atexit.register(_remove_all)  # a process that ends by itself has not crashed
        _held.setdefault(model, []).append((mark, descriptor))


def running(model: Path) -> None:
    """Say that the last mark of this process that is still one of a start has come to a first token.

    Where that cannot be written it stays one of a start.
    """
    with _lock, suppress(OSError):
        marks = _held.get(model, [])
        for place, (mark, descriptor) in reversed(list(enumerate(marks))):
            if mark.name.startswith(_STARTING):
                renamed = mark.with_name(mark.name.replace(_STARTING, _RUNNING, 1))
                os.replace(mark, renamed)  # noqa: PTH105  # the descriptor keeps its lock
                marks[place] = (renamed, descriptor)
                disk.sync(model)
                return


def remove(model: Path) -> bool:
    """Remove the last mark that this process left; whether there was one."""
    with _lock:
        marks = _held.get(model)
        mark = marks.pop() if marks else None
    if mark is None:
        return False
    _remove(*mark)
    return True


def crashed(model: Path) -> Iterator[tuple[bool, str]]:
    """Of each mark whose process has died: whether it had come to a first token, and the revision.

    One of a start is removed when the next is asked for, so that no crash is forgotten; another one
    before, so that no death counts twice. The caller holds the store's lock. Raises OSError.
    """
    for mark in sorted([*model.glob(f"{_STARTING}*"), *model.glob(f"{_RUNNING}*")]):
        with suppress(FileNotFoundError):  # it has just ended well
            descriptor = os.open(mark, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
            try:
                if try_lock(descriptor) and mark.exists():
                    ran, revision = _read(mark)
                    if ran:
                        os.unlink(mark)  # noqa: PTH108
                    yield ran, revision
                    if not ran:
                        os.unlink(mark)  # noqa: PTH108
            finally:
                os.close(descriptor)


def _read(mark: Path) -> tuple[bool, str]:
    ran = mark.name.startswith(_RUNNING)
    return ran, mark.name.removeprefix(_RUNNING if ran else _STARTING).partition("-")[2]


def _remove(mark: Path, descriptor: int) -> None:
    with suppress(OSError):
        os.unlink(mark)  # noqa: PTH108
    os.close(descriptor)  # last: a mark without a lock is a crash


def _remove_all() -> None:
    for model in list(_held):
        while remove(model):
            pass
