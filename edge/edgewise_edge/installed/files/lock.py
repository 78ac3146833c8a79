"""A lock between processes and threads, which the system releases when its holder is killed."""

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

from edgewise_edge.errors import StoreError

TIMEOUT = 10.0  # seconds
_POLL_INTERVAL = 0.02  # seconds
_TOLD_AFTER = 1.5  # seconds of waiting
_log = logging.getLogger("edgewise_edge.installed")

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def locked(path: Path, timeout: float | None = None) -> Iterator[None]:
    """Hold the lock file at `path`, which stays.

    Raises StoreError when somebody keeps it for longer than `timeout` seconds, TIMEOUT by default.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(path, flags, 0o600)
    try:
        _acquire(descriptor, path, TIMEOUT if timeout is None else timeout)
        with contextlib.suppress(OSError):  # only for the message
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def try_lock(descriptor: int) -> bool:
    """Whether the file is now locked for this descriptor; True where there are no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(descriptor: int, path: Path, timeout: float) -> None:
    started, told = time.monotonic(), False
    while not try_lock(descriptor):
        waited = time.monotonic() - started
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace") or "of unknown number"
        if waited > _TOLD_AFTER and not told:
            _log.warning("waiting for process %s, which uses %s", holder, path.parent)
            told = True
        if waited > timeout:
            raise StoreError(
                f"the store of models at {path.parent} has been in use by process {holder} for "
                f"{timeout:g} s; wait until it is done, or end it"
            )
        time.sleep(_POLL_INTERVAL)
