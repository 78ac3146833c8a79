"""Atomic writes, and whether a folder can be written at all."""

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
