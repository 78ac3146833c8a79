"""Standard error: messages, and the progress of long commands; one console, so that they do not mix."""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, NoReturn, Protocol

from rich.console import Console
from rich.text import Text

from edgewise_edge.decoding.printable import printable
from edgewise_edge.runtime.stderr import NATIVE_LINE
from edgewise_edge.standard_streams import forget_invalid_size

FAILED = 1  # an exit status
INTERRUPTED = 130  # the exit status that shells report after Ctrl-C
COUNT_INTERVAL = 2.0  # seconds to the first line that counts; later ones come ever more slowly

_captures = threading.RLock()  # re-entrant: a conversion captures, and so does the import inside it

forget_invalid_size()


class SafeConsole(Console):
    """Shows control characters, which names and messages from elsewhere may contain."""

    def render_str(self, text: str, **options: Any) -> Text:
        """See Console."""
        return super().render_str(printable(text, lines=True), **options)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled; Rich would exit, and redirect stdout."""
        raise  # noqa: PLE0704


console = SafeConsole(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say(text: str, style: str | None = None) -> None:
    """Print a line to standard error without markup: names and paths may contain brackets."""
    with suppress(OSError):  # a full disk must not end what it tells about
        console.print(text, style=style, markup=False)


class Progress(Protocol):
    """Is told what a long task does now."""

    def step(self, text: str) -> None:
        """A step begins, such as `compiling`."""

    def count(self, done: int, total: int, note: str = "") -> None:
        """The step has come this far; `note` adds figures."""


class NoProgress:
    """Shows nothing."""

    def step(self, text: str) -> None:
        """See Progress."""

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress."""


SILENT: Progress = NoProgress()


class LineProgress:
    """A line for each step, and a few while it counts, given to `write`: for files and logs."""

    def __init__(self, write: Callable[[str], None] = say) -> None:
        self._write = write
        self._step, self._started, self._due = "", 0.0, 0.0

    def step(self, text: str) -> None:
        """See Progress."""
        if text != self._step:
            self._step, self._started = text, time.monotonic()
            self._due = self._started + COUNT_INTERVAL
            self._write(text)

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + max(COUNT_INTERVAL, 0.2 * (now - self._started))
            self._write(_counted(self._step, done, total, note))


class LiveProgress:
    """One line on a terminal, with a clock from the start, and a bar while it counts."""

    def __init__(self) -> None:
        # Not imported by a command line that only prints its help.
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        text, clock = TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        self._plain = (SpinnerColumn(), text, clock)
        self._counting = (*self._plain, BarColumn(), TextColumn("left"), TimeRemainingColumn())
        # Python's own streams stay: libraries that are imported meanwhile would keep a replacement.
        self.bar = Progress(
            *self._plain,
            console=console,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self.bar.add_task("starting", total=None)
        self._step, self._started = "", self.bar.tasks[0].start_time

    def step(self, text: str) -> None:
        """See Progress."""
        if text != self._step:
            self._step = text
            self.bar.columns = self._plain
            self.bar.reset(self._task, total=None, description=printable(text))
            self.bar.tasks[0].start_time = self._started

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress."""
        self.bar.columns = self._counting
        text = printable(_counted(self._step, done, total, note))
        self.bar.update(self._task, completed=done, total=total, description=text)


@contextmanager
def shown_progress(write: Callable[[str], None] | None = None) -> Iterator[Progress]:
    """Progress as lines given to `write`; by default on standard error, live on a terminal."""
    if write or not console.is_terminal or console.is_dumb_terminal:
        yield LineProgress(write or say)
        return
    live = LiveProgress()
    with live.bar:
        yield live


@contextmanager
def without_native_logs() -> Iterator[None]:
    """Keep native libraries' lines off standard error; the console still writes to it."""
    with ExitStack() as stack:
        # Inside another one, the console already writes to a copy, and 2 is the library's log.
        if _is_standard_error() and console.file is sys.stderr:
            copy = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace", buffering=1)
            console.file = stack.enter_context(copy)
            stack.callback(setattr, console, "file", None)  # sys.stderr again
        stack.enter_context(_captured_stderr())
        yield


@contextmanager
def _captured_stderr() -> Iterator[None]:
    """Drop the log lines that native libraries write to file descriptor 2.

    The descriptor belongs to the whole process, so this is for commands only: all other lines,
    are written to it on exit.
    """
    with _captures, ExitStack() as stack:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
            log = stack.enter_context(_memory_file())
        except (OSError, ValueError, AttributeError):  # no standard error, or nowhere to write
            yield
            return
        os.dup2(log.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if not NATIVE_LINE.match(line):
                    os.write(2, line.encode(errors="replace"))


def _memory_file() -> IO[bytes]:
    """A file in memory where the system has such files, else a temporary one."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgewise-log"), "w+b")
    return tempfile.TemporaryFile()


def _counted(step: str, done: int, total: int, note: str) -> str:
    return " · ".join(filter(None, (f"{step} {done:,} of {total:,}", note)))


def exit_interrupted(*_signal: object) -> NoReturn:
    """A handler of SIGINT that exits at once: native code's imports lose a KeyboardInterrupt."""
    exit_at_once(INTERRUPTED)


def exit_at_once(status: int) -> NoReturn:
    """End the process without waiting for its threads, which may hang in native code."""
    console.show_cursor()
    if console.is_terminal:  # the next prompt does not follow a live line
        console.file.write("\n")
        console.file.flush()
    os._exit(status)


def _is_standard_error() -> bool:
    try:
        return sys.stderr.fileno() == 2
    except (AttributeError, OSError, ValueError):  # closed, or replaced by a test
        return False
