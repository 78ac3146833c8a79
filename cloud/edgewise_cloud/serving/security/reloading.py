"""Files that are read again when they change."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edgewise_cloud.errors import ServeError

T = TypeVar("T")

CHECK_INTERVAL = 1.0  # seconds; a check costs one `stat` per file

log = logging.getLogger("edgewise_cloud.serving.reloading")


class Reloaded(Generic[T]):
    """The result of `read`, called again after one of `files` has changed.

    The first call raises what `read` raises. Later, a ServeError is logged, and the last good result
    stays in use.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files, self._read = files, read
        # Checked before reading: a change in between is read at the next check.
        self._stamps = self._check()
        self._value = read()

    def __call__(self) -> T:
        """The last good result; changes are seen within a second."""
        if time.monotonic() >= self._next_check:
            stamps = self._check()
            if stamps != self._stamps:
                self._stamps = stamps
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        try:
            self._value = self._read()
        except ServeError as error:
            log.error("%s; the last good version stays in use", error)  # noqa: TRY400  # no traceback
        else:
            log.info("reloaded %s", ", ".join(map(str, self._files)))

    def _check(self) -> list[tuple[int, int, int] | None]:
        self._next_check = time.monotonic() + CHECK_INTERVAL
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_bytes(file: Path) -> bytes:
    """The bytes of `file`. Raises ServeError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ServeError(f"cannot read {file}: {error.strerror}") from error
