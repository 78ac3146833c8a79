"""Atomic and durable writes, and whether a folder can be written at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, and rename it to `path` when the block succeeds.

    If the block raises, `path` is unchanged and the temporary file is removed.
    """
    partial = path.with_name(f"partial-{path.name}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def durable_write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write `data` to `path` atomically, so that it is there after a power loss, too.

    The process's umask applies to `mode`. Raises OSError; `path` is then unchanged.
    """
    with atomic_write(path) as partial:
        partial.unlink(missing_ok=True)  # one that a killed process left may have another mode
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flush the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(folder: Path) -> None:
    """Raise OSError where `folder` could not be made and written to; leaves nothing behind."""
    nearest = folder.absolute()
    while not nearest.exists():
        nearest = nearest.parent
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(nearest))
    # Permissions do not say it for every user and file system: root in /proc, for example.
    with tempfile.TemporaryDirectory(prefix=".edgewise-", dir=nearest):
        pass
