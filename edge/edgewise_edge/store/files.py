"""Files: reading and replacing small ones, whatever lies at their path, and whose a file is."""

import contextlib
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK_TIMEOUT = 0.1  # seconds


def read_text(path: Path, limit: int) -> str:
    """The UTF-8 text of the regular file at `path`, which has at most `limit` bytes.

    Raises OSError or ValueError, and never waits: a FIFO has no end, and a device may have none.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path.name} is not a regular file")
        # Not up to `limit` at once, for which Python would take as much memory.
        content = b"" if found.st_size > limit else file.read(found.st_size + 1)
    if max(found.st_size, len(content)) > limit:
        raise ValueError(f"{path.name} has more than {limit:,} bytes")
    return content.decode("utf-8")


def write_text(path: Path, text: str) -> None:
    """write_bytes() of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace what lies at `path` in one step, and not what a link there leads to. Raises OSError."""
    partial = path.with_name(f".{os.urandom(16).hex()}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
        partial.replace(path)
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, against other processes and other callers in this one.

    For at most 0.1 s it is waited for: its holder may be stopped, and some file systems have no
    locks. The block then runs without it. Raises OSError if the folder cannot be opened.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        give_up = time.monotonic() + _LOCK_TIMEOUT
        while not _try_lock(descriptor) and time.monotonic() < give_up:
            time.sleep(0.002)
        yield
    finally:
        os.close(descriptor)  # and with it the lock


def _try_lock(descriptor: int) -> bool:
    """Whether there is nothing to wait for: it is locked now, or cannot be."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def is_ours(path: Path) -> bool:
    """Whether a regular file, and no link to one, lies at `path` that this user or root owns."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and is_owner(found)


def is_owner(found: os.stat_result) -> bool:
    """Whether this user or root owns it; always true on Windows."""
    return not hasattr(os, "geteuid") or found.st_uid in {os.geteuid(), 0}
