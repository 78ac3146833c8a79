"""Downloading one file whose size and sha256 are known before.

Every byte that came counts, also after a kill: the next try asks for the rest. The file is used only
when its sha256 is right.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TypeAlias

from edgewise.delivery.download.bandwidth import Bandwidth
from edgewise.delivery.download.retry import Clock, Retry
from edgewise.delivery.settings import DownloadSettings
from edgewise.errors import DownloadFailedError
from edgewise_edge.errors import ModelCorruptError
from edgewise_edge.installed.fetcher import Fetcher, FetchError, FetchFailure, Reply

# Bytes done, bytes of the whole file, and bytes that were there before this download began.
OnProgress: TypeAlias = Callable[[int, int, int], None]

_PROGRESS = 2**16  # bytes beyond all before; fewer, and a bad server could keep a device for ever


class Partial(Protocol):
    """The bytes of a file that are there, kept over restarts: edgewise_edge.installed's, open."""

    sha256: str  # of the whole file
    total: int  # its size, bytes
    size: int  # bytes that are there
    journal: Mapping[str, str]  # what was noted with them

    def append(self, content: bytes) -> None:
        """Add bytes. Raises StoreError, for a full disk."""

    def note(self, journal: Mapping[str, str]) -> None:
        """Keep `journal` with the bytes."""

    def reset(self) -> None:
        """Drop the bytes and the notes."""

    def finish(self) -> Path:
        """The whole file. Raises ModelCorruptError, and drops the bytes, if its sha256 differs."""


def download(
    fetcher: Fetcher,
    path: str,
    partial: Partial,
    *,
    settings: DownloadSettings | None = None,
    on_progress: OnProgress | None = None,
    clock: Clock | None = None,
) -> Path:
    """Fetch the rest of the file at `path` into `partial`; where the whole file lies then.

    Raises DownloadFailedError after too many tries without progress, or when other bytes come than
    the expected ones, twice; StoreError for a full disk. An exception of `on_progress` or of the
    clock's `sleep` stops the download. What came is kept.
    """
    return _Download(
        fetcher, path, partial, settings or DownloadSettings(), on_progress, clock or Clock()
    ).run()


class _OtherBytesError(Exception):
    """The bytes are not those of the expected file."""


class _Download:
    """One download."""

    def __init__(
        self,
        fetcher: Fetcher,
        path: str,
        partial: Partial,
        settings: DownloadSettings,
        on_progress: OnProgress | None,
        clock: Clock,
    ) -> None:
        self._fetcher = fetcher
        self._path = path
        self._partial = partial
        self._what = f"{path} of {fetcher}"
        self._retry = Retry(self._what, settings, clock)
        self._bandwidth = Bandwidth(settings.bandwidth, clock)
        self._on_progress = on_progress
        self._resumed_from = partial.size
        self._farthest = partial.size

    def run(self) -> Path:
        """See `download`."""
        try:
            return self._fetch_all()
        except _OtherBytesError:
            self._start_again()
        try:
            return self._fetch_all()
        except _OtherBytesError as error:
            self._partial.reset()
            raise DownloadFailedError(f"{self._what} cannot be downloaded: {error}") from error

    def _fetch_all(self) -> Path:
        self._report()
        while self._partial.size < self._partial.total:
            try:
                self._fetch_rest()
            except FetchError as error:
                self._retry.failed(error)
        try:
            return self._partial.finish()
        except ModelCorruptError as error:
            raise _OtherBytesError(str(error)) from error

    def _fetch_rest(self) -> None:
        partial = self._partial
        with self._fetcher.open(self._path, partial.size, self._validator()) as reply:
            self._check(reply)
            if reply.offset != partial.size:
                self._start_again()
                _require_start(reply)
            self._note(reply.validator)
            for chunk in reply.chunks:
                self._take(chunk)
                if partial.size == partial.total:
                    return
        raise FetchError(
            FetchFailure.TEMPORARY,
            f"it ended after {partial.size:,} of {partial.total:,} bytes",
        )

    def _check(self, reply: Reply) -> None:
        """Another file, such as the page of a hotel's network, does not cost what is there."""
        total, sha256 = self._partial.total, self._partial.sha256
        if reply.size not in {None, total}:
            raise FetchError(
                FetchFailure.REFUSED,
                f"it has {reply.size:,} bytes there, and should have {total:,}: it is another file",
            )
        if reply.sha256 not in {"", sha256}:
            raise FetchError(
                FetchFailure.REFUSED,
                f"its sha256 is {reply.sha256} there, and should be {sha256}: it is another file",
            )

    def _take(self, chunk: bytes) -> None:
        partial = self._partial
        if partial.size + len(chunk) > partial.total:
            raise _OtherBytesError(
                f"more came than its {partial.total:,} bytes: it is another file"
            )
        partial.append(chunk)
        self._bandwidth.take(len(chunk))
        if partial.size >= min(self._farthest + _PROGRESS, partial.total):
            self._farthest = partial.size
            self._retry.progress()
        self._report()

    def _start_again(self) -> None:
        self._partial.reset()
        self._resumed_from = 0

    def _validator(self) -> str:
        """Of the bytes that are there. Another place has others, also for the same file."""
        journal = self._partial.journal
        return journal.get("validator", "") if journal.get("from") == self._what else ""

    def _note(self, validator: str) -> None:
        noted = {"from": self._what, "validator": validator}
        if self._partial.journal != noted:
            self._partial.note(noted)

    def _report(self) -> None:
        if self._on_progress:
            self._on_progress(self._partial.size, self._partial.total, self._resumed_from)


def _require_start(reply: Reply) -> None:
    if reply.offset:
        raise FetchError(FetchFailure.TEMPORARY, "its bytes come from another place of the file")


def read_small(
    fetcher: Fetcher,
    path: str,
    limit: int,
    *,
    settings: DownloadSettings | None = None,
    clock: Clock | None = None,
) -> bytes:
    """A file of at most `limit` bytes, in memory. Raises FetchError(MISSING) or DownloadFailedError.

    Nothing vouches for its bytes.
    """
    retry = Retry(f"{path} of {fetcher}", settings or DownloadSettings(), clock or Clock())
    while True:
        try:
            return _read(fetcher, path, limit)
        except FetchError as error:
            if error.kind is FetchFailure.MISSING:
                raise
            retry.failed(error)


def _read(fetcher: Fetcher, path: str, limit: int) -> bytes:
    content = bytearray()
    with fetcher.open(path) as reply:
        for chunk in reply.chunks:
            content += chunk
            if len(content) > limit:
                raise FetchError(FetchFailure.REFUSED, f"it has more than {limit:,} bytes")
    return bytes(content)
