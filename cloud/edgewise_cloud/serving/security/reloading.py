"""Files that may change while the service runs."""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from edgewise_cloud.errors import ServeError

T = TypeVar("T")

LOOK_EVERY = 1.0  # seconds; a look costs a `stat` of each file

log = logging.getLogger("edgewise_cloud.serving.reloading")


class Reloaded(Generic[T]):
    """What `read` makes of `files`; made again, when asked for, after one of them changed.

    The first reading raises what `read` does. Later, a version with which it raises ServeError is
    reported to the log, and the last good one stays in force.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[], T]) -> None:
        self._files, self._read = files, read
        # Looked at before it is read: what changes in between is read once more.
        self._seen = self._look()
        self._value = read()

    def __call__(self) -> T:
        """The last good version, at most a second old."""
        if time.monotonic() >= self._next_look:
            seen = self._look()
            if seen != self._seen:
                self._seen = seen
                self._read_again()
        return self._value

    def _read_again(self) -> None:
        try:
            self._value = self._read()
        except ServeError as error:
            log.error("%s; what was read before stays in force", error)  # noqa: TRY400  # no trace
        else:
            log.info("read again: %s", ", ".join(map(str, self._files)))

    def _look(self) -> list[tuple[int, int, int] | None]:
        self._next_look = time.monotonic() + LOOK_EVERY
        return [_stamp(file) for file in self._files]


def _stamp(file: Path) -> tuple[int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def read_bytes(file: Path) -> bytes:
    """The bytes of `file`. Raises ServeError."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise ServeError(f"cannot read {file}: {error.strerror}") from error
