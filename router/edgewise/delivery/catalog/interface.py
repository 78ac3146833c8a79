"""What every catalog can do, and what it needs."""

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from edgewise.delivery.download import Partial
from edgewise_edge.installed.channel_index import Index
from edgewise_edge.installed.fetcher import Fetcher

Root: TypeAlias = bytes | str | PathLike[str]  # a root.json or the file that it is in


@dataclass(frozen=True, slots=True)
class Target:
    """A file that a catalog has: `path` for its fetcher, size in bytes, and sha256 in hex."""

    path: str
    size: int
    sha256: str


class Catalog(Protocol):
    """The models of a place and their files. Target paths are those of a channel, for both kinds.

    NAME/REVISION/manifest.json, NAME/REVISION/evaluation.json, blobs/SHA256, deltas/FROM-TO.xz
    """

    @property
    def fetcher(self) -> Fetcher:
        """Reads its files."""

    def refresh(self) -> Index:
        """What there is now. Raises DownloadFailedError, ChannelError or StoreError."""

    def target(self, path: str) -> Target | None:
        """The file of that target path, after `refresh`; None if there is none."""

    def close(self) -> None:
        """Close its connections."""


class OpenPartial(Partial, Protocol):
    """A Partial that its `with` block opens and closes."""

    def __enter__(self) -> Self:
        """Open."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""


class Storage(Protocol):
    """What a catalog needs of the store (edgewise_edge.installed.ModelStore)."""

    @property
    def root(self) -> Path:
        """Its folder."""

    def blob(self, sha256: str) -> Path | None:
        """A whole file that is there."""

    def partial(self, sha256: str, size: int) -> OpenPartial:
        """The beginning of a file."""
