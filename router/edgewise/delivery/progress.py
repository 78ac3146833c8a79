"""How far a download is: for people, and for observers at most once a second."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

EVENT_INTERVAL = 1.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadProgress:
    """How far the download of a revision is. All in bytes, `rate` in bytes per second."""

    revision: str
    done: int  # that are there, from earlier tries too
    total: int
    resumed: int  # that were there before this try
    rate: float | None = None  # of this try; None: not known yet

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None: not known yet."""
        return (self.total - self.done) / self.rate if self.rate else None


OnDownload = Callable[[DownloadProgress], object]


@dataclass(slots=True)
class ProgressMeter:
    """Adds up the files of one revision and calls `report` for each chunk."""

    revision: str
    total: int  # bytes
    report: OnDownload
    now: Callable[[], float] = time.monotonic
    _done: int = 0  # bytes of the files before the one that is being fetched
    _resumed: int = 0
    _file: tuple[int, int] = (0, 0)  # bytes of that one: done, resumed
    _started: float = field(default=0.0)

    def start(self) -> None:
        """The rate counts from here."""
        self._started = self.now()
        self._report()

    def file(self, done: int, _: int, resumed: int) -> None:
        """An OnProgress (download/transfer.py) of the file that is being fetched."""
        self._file = done, resumed
        self._report()

    def file_ended(self) -> None:
        """The next file follows."""
        done, resumed = self._file
        self._done, self._resumed, self._file = self._done + done, self._resumed + resumed, (0, 0)

    def file_failed(self, planned: int, instead: int) -> None:
        """Another of `instead` bytes is fetched in place of the file of `planned` bytes."""
        self._file = (0, 0)
        self.total += instead - planned

    @property
    def fetched(self) -> int:
        """Bytes that came in this try."""
        return self._done + self._file[0] - self._resumed - self._file[1]

    def _report(self) -> None:
        elapsed = self.now() - self._started
        self.report(
            DownloadProgress(
                revision=self.revision,
                done=self._done + self._file[0],
                total=self.total,
                resumed=self._resumed + self._file[1],
                rate=self.fetched / elapsed if elapsed > 0 and self.fetched > 0 else None,
            )
        )
