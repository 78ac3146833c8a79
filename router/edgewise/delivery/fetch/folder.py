"""The files of a folder: a USB stick, a share of the local network."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgewise.delivery.fetch.paths import parts_of
from edgewise_edge.installed.fetcher import CHUNK_BYTES, FetchError, FetchFailure, Reply


class FolderFetcher:
    """Reads files below `folder`, also where links lead elsewhere: the user named the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __str__(self) -> str:
        """The folder."""
        return str(self._folder)

    def open(self, path: str, offset: int = 0, validator: str = "") -> Reply:
        """See Fetcher. Its validator is the time of the file's last change."""
        full = self._folder.joinpath(*parts_of(path))
        try:
            file = _open(full)
        except FileNotFoundError as error:
            raise self._missing(full) from error
        except OSError as error:
            raise _failure(full, error) from error
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            file.close()
            raise FetchError(FetchFailure.REFUSED, f"{full} is not a regular file")
        now = f"{found.st_mtime_ns}-{found.st_size}"
        start = offset if offset <= found.st_size and validator in {"", now} else 0
        file.seek(start)
        return Reply(
            offset=start,
            size=found.st_size,
            chunks=_chunks(full, file),
            close=file.close,
            validator=now,
        )

    def close(self) -> None:
        """Nothing is kept open."""

    def _missing(self, full: Path) -> FetchError:
        """A stick that is not plugged in may be later; a file that is not there will not."""
        if self._folder.is_dir():
            return FetchError(FetchFailure.MISSING, f"{full} does not exist")
        return FetchError(FetchFailure.REFUSED, f"{self._folder} is not a folder, or not there now")


def _open(path: Path) -> BinaryIO:
    """Without waiting, whatever lies there: a FIFO has no end."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags), "rb", buffering=0)


def _chunks(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    except OSError as error:  # the stick was pulled out
        raise _failure(path, error) from error


def _failure(path: Path, error: OSError) -> FetchError:
    lasting = isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError)
    kind = FetchFailure.REFUSED if lasting else FetchFailure.TEMPORARY
    return FetchError(kind, f"{path} cannot be read: {error.strerror}")
