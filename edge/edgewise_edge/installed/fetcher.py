"""What a download needs of whatever reads the files of a channel: a folder, HTTP, gRPC.

Here, below the router's packages that implement it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, Self

CHUNK_BYTES = 2**16  # at most, of a chunk: memory stays flat


class FetchFailure(StrEnum):
    """Why a file was not read, and so what to do about it."""

    MISSING = "missing"  # there is no such file
    TEMPORARY = "temporary"  # try again later
    REFUSED = "refused"  # trying again does not help


class FetchError(Exception):
    """A fetcher could not read a file, or not to its end.

    The message says so in words for users. `retry_after` is how many seconds the server asked to
    wait, 0 if it did not say.
    """

    def __init__(self, kind: FetchFailure, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A file's bytes from `offset` on. A context manager, which ends the transfer.

    `offset` is the one asked for, or 0: then the file has changed, or cannot be read from its
    middle. `size` is that of the whole file in bytes, None if unknown. `validator` tells this
    version of the file from others: hand it to the next `open`. `sha256` is what the place says
    about the whole file, empty if it says nothing; nobody relies on it.

    `chunks` raises FetchError(TEMPORARY) where the bytes end early or stall; it may give more bytes
    than `size`: whoever reads counts.
    """

    offset: int
    size: int | None
    chunks: Iterator[bytes]
    close: Callable[[], None]
    validator: str = ""
    sha256: str = ""

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the transfer."""
        self.close()


class Fetcher(Protocol):
    """Reads the files of one folder, wherever it is."""

    def open(self, path: str, offset: int = 0, validator: str = "") -> Reply:
        """The file at `path` (relative, parts joined by "/") from byte `offset` on.

        With the `validator` of an earlier reply, a file that has changed since starts at 0. Raises
        FetchError. Where it waits, it waits at most as long as its stall timeout.
        """

    def close(self) -> None:
        """Close its connections."""
