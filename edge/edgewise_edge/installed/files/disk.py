"""Changes on disk that a kill, a power cut or a full disk leaves either done or not done.

Nothing else in this package writes. Each change: write under another name, flush the file, rename,
flush the folder.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgewise_edge.errors import StoreError

NEW = ".new-"  # a file or folder that is being made; only under the lock
GONE = ".gone-"  # one that is being removed
_CHUNK = 2**20
_NO_LINKS = {errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.EACCES}


@contextmanager
def failures(root: Path, needed: int = 2**16) -> Iterator[None]:
    """Raise StoreError in place of OSError. `needed` are the bytes that the change takes."""
    try:
        yield
    except OSError as error:
        raise StoreError(_explanation(root, error, needed)) from error


def require_space(folder: Path, needed: int) -> None:
    """Raise OSError unless `needed` bytes are free."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, for this user alone."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)  # noqa: PTH102  # tests count the calls of os
    sync(folder.parent)


def write(path: Path, content: bytes) -> None:
    """Replace the file at `path`. The caller holds a lock."""
    new = path.with_name(NEW + path.name)
    with suppress(FileNotFoundError):
        os.unlink(new)  # noqa: PTH108
    try:
        _write_new(new, content)
        os.replace(new, path)  # noqa: PTH105
    except OSError:
        with suppress(OSError):
            os.unlink(new)  # noqa: PTH108
        raise
    sync(path.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Let the new file `target` have the content of `source`: a second name, where that works."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        copy(source, target)


def copy(source: Path, target: Path) -> None:
    """Copy to the new file `target`, and flush it."""
    with failures(target.parent, source.stat().st_size), source.open("rb") as file:
        descriptor = _create(target)
        try:
            while chunk := file.read(_CHUNK):
                write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """All of `content`: the system may write less at a time."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def move(source: Path, target: Path) -> None:
    """Rename within the store, to where nothing or a file is."""
    os.replace(source, target)  # noqa: PTH105
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def remove_folder(folder: Path) -> int:
    """Remove a folder at once for others, then its files; the bytes that are free now."""
    gone = folder.with_name(GONE + folder.name.removeprefix(GONE))
    if gone != folder:
        if gone.exists():
            remove_folder(gone)
        move(folder, gone)
    freed = sum(_last_bytes(path) for path in gone.rglob("*"))
    shutil.rmtree(gone)
    return freed


def remove_file(path: Path) -> int:
    """The bytes that are free now."""
    freed = _last_bytes(path)
    with suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108
    return freed


def sync(folder: Path) -> None:
    """Have the names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_new(path: Path, content: bytes) -> None:
    descriptor = _create(path)
    try:
        write_all(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _last_bytes(path: Path) -> int:
    """The size of a file that has no other name."""
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if found.st_nlink == 1 else 0


def _explanation(root: Path, error: OSError, needed: int) -> str:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        with suppress(OSError):
            free = shutil.disk_usage(root).free
            return (
                f"the store of models at {root} is full: {needed / 1e6:,.1f} MB are needed, "
                f"{free / 1e6:,.1f} MB are free; free disk space, or remove a model"
            )
    what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    return f"the store of models at {root} cannot be used ({what}); check that it can be written to"
