"""Reading the files of a channel by the names that callers give.

Each part of a file is read by opening it anew, so that no download holds a file open. Published files
are replaced by renaming, and their names tell their content, so that parts belong together.
"""

import errno
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.types import RefusedError

FOLDERS = ("metadata", "targets")  # of a channel; everything else in it stays here
MAX_NAME = 512  # bytes
# No hidden files: a publisher's temporary ones.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_NAMED_BY_CONTENT = re.compile(r"targets/(?:.*/)?([0-9a-f]{64})\.[^/]+")
_MISSING = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_FLAGS = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = _FLAGS | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class FilePart:
    """Bytes of a file, the size of the whole, and what tells its version; see delivery.proto."""

    data: bytes
    size: int
    version: str


def check_name(name: str) -> None:
    """Raise RefusedError for a name that is no plain path."""
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "the name is no path of a file within the channel: parts of letters, digits and . _ - "
            f"joined by slashes, {MAX_NAME} bytes at most",
        )


def read_part(channel: Path, name: str, offset: int, size: int) -> FilePart:
    """At most `size` bytes of a file from `offset` on; fewer at its end only.

    Raises RefusedError for what is no regular file of the channel, links included; ServeError for a
    channel that cannot be read.
    """
    check_name(name)
    if name.split("/", 1)[0] not in FOLDERS:
        raise _not_found()
    try:
        descriptor = _open(channel, name.split("/"))
    except OSError as error:
        if error.errno in _MISSING:
            raise _not_found() from error
        raise ServeError(f"the channel's {name} cannot be read: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _not_found()
        data = os.pread(descriptor, size, offset) if offset < found.st_size else b""
    except OSError as error:
        raise ServeError(f"the channel's {name} cannot be read: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return FilePart(data, found.st_size, _version(name, found))


def _open(channel: Path, parts: list[str]) -> int:
    """Folder by folder, following no link, so that no name and no race leads out of the channel."""
    folder = os.open(channel, _FOLDER)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # Without waiting, whatever lies there: a FIFO has no end.
        return os.open(parts[-1], _FLAGS | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)


def _version(name: str, found: os.stat_result) -> str:
    """The sha256 in a target's name, the same on all servers; else the time of the last change."""
    named = _NAMED_BY_CONTENT.fullmatch(name)
    return named[1] if named else f"{found.st_mtime_ns}-{found.st_size}"


def _not_found() -> RefusedError:
    return RefusedError(grpc.StatusCode.NOT_FOUND, "the channel has no such file")
