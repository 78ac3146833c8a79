"""Files that are read again when they change."""

import logging
import os
import stat
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from edgewise_cloud.errors import ServeError

T = TypeVar("T")

CHECK_INTERVAL = 1.0  # seconds; a check costs one `stat` per file
MAX_BYTES = 16 * 2**20  # of a file: some 200,000 tokens

log = logging.getLogger("edgewise_cloud.serving.reloading")


class Reloaded(Generic[T]):
    """The result of `read`, called again after one of `files` has changed.

    The constructor raises what `read` raises. Later, an error is logged, and the last good result
    stays in use. A thread of its own checks the files and reads them, so that a call never waits for
    a disk; the thread ends with this object.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files, self._read = files, read
        # Checked before reading: a change in between is read at the next check.
        self._stamps = self._check()
        self._value = read()
        threading.Thread(
            target=_watch, args=(weakref.ref(self),), name="reload-files", daemon=True
        ).start()

    def __call__(self) -> T:
        """The last good result; changes are seen within about a second."""
        return self._value

    def refresh(self) -> None:
        """Read the files again if they have changed."""
        stamps = self._check()
        if stamps != self._stamps:
            self._stamps = stamps
            self._read_again()

    def _read_again(self) -> None:
        try:
            self._value = self._read()
        except ServeError as error:
            log.error("%s; the last good version stays in use", error)  # noqa: TRY400  # no traceback
        except Exception as error:  # noqa: BLE001  # the next change must be seen
            name = type(error).__name__
            log.error("reading again failed: %s; the last good version stays in use", name)  # noqa: TRY400
        else:
            log.info("reloaded %s", ", ".join(map(str, self._files)))

    def _check(self) -> list[tuple[int, int, int] | None]:
        return [_stamp(file) for file in self._files]


def _watch(watched: "weakref.ref[Reloaded[Any]]") -> None:
    while True:
        time.sleep(CHECK_INTERVAL)
        if (current := watched()) is None:
            return
        current.refresh()
        del current


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_bytes(file: Path) -> bytes:
    """The bytes of a regular file. Raises ServeError, also for one above 16 MiB."""
    try:
        with open(file, "rb", opener=_open) as opened:
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise ServeError(f"{file} is not a regular file; copy its content to one")
            data = opened.read(MAX_BYTES + 1)
    except OSError as error:
        raise ServeError(f"cannot read {file}: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ServeError(f"{file} has more than {MAX_BYTES:,} bytes; is it the right file?")
    return data


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # or a FIFO would wait for its writer
