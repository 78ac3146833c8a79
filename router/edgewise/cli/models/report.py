"""What an update shows while it runs: a bar on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from edgewise.cli.output import note, notes
from edgewise.delivery.events import DownloadStarted, ModelEvent, UpdateChecked
from edgewise.delivery.progress import DownloadProgress

LINE_SHARE = 0.1  # of the bytes, from one line to the next
LINE_INTERVAL = 5.0  # seconds, if that is sooner


class Report:
    """Shows the progress on standard error; a context manager."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._bar = _bar() if notes.is_terminal else None
        self._task = self._bar.add_task("", total=None, start=True) if self._bar else None
        self._line_at, self._line_done = time.monotonic(), 0

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()
        if isinstance(error, KeyboardInterrupt):
            note("stopped; what was fetched is kept, run it again to go on", style="dim")

    def asking(self) -> None:
        """The channel is being asked."""
        self._say("asking the channel")
        if self._bar:
            self._bar.start()

    def event(self, event: ModelEvent) -> None:
        """An observer of the update."""
        if isinstance(event, UpdateChecked) and event.revision:
            self._say(f"the newest revision is {event.revision}")
        elif isinstance(event, DownloadStarted):
            resumed = f", {size(event.resumed)} of it are here" if event.resumed else ""
            what = "a delta of " if event.delta else ""
            self._say(f"fetching {event.revision}: {what}{size(event.total)}{resumed}")

    def progress(self, progress: DownloadProgress) -> None:
        """Bytes came."""
        if self._bar and self._task is not None:
            self._bar.update(self._task, completed=progress.done, total=progress.total)
        elif self._is_due(progress):
            note(line(self._name, progress), style="dim")
        if progress.done == progress.total:
            self._say("trying it on this device")

    def _is_due(self, progress: DownloadProgress) -> bool:
        now = time.monotonic()
        if progress.done in {progress.resumed, 0}:  # the first report, or it starts over
            self._line_at, self._line_done = now, progress.done
            return False
        if progress.done == progress.total:
            return True
        step = progress.done - self._line_done >= LINE_SHARE * progress.total
        if step or now - self._line_at >= LINE_INTERVAL:
            self._line_at, self._line_done = now, progress.done
            return True
        return False

    def _say(self, words: str) -> None:
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=f"{self._name}: {words}")
        else:
            note(f"{self._name}: {words}", style="dim")


def line(name: str, progress: DownloadProgress) -> str:
    """One line: how far, how fast, how long it still takes, how much was here before."""
    parts = [f"{size(progress.done)} of {size(progress.total)}"]
    if progress.total:
        parts[0] += f" ({progress.done / progress.total:.0%})"
    if progress.rate:
        parts.append(f"{size(progress.rate)}/s")
    if progress.seconds_left:
        parts.append(f"{progress.seconds_left:,.0f} s left")
    if progress.resumed:
        parts.append(f"{size(progress.resumed)} were here")
    return f"{name}: {', '.join(parts)}"


def size(count: float) -> str:
    """Bytes for people."""
    for unit, divisor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= divisor:
            return f"{count / divisor:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=notes,
        transient=True,
    )
