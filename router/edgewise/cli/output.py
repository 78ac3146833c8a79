"""Writing: results to standard output, everything else to standard error."""

import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from edgewise_edge.decoding.printable import printable
from edgewise_edge.standard_streams import emit, forget_invalid_size, is_unicode

forget_invalid_size()


class SafeConsole(Console):
    """Shows control characters, which names and messages from elsewhere may contain."""

    def render_str(self, text: str, **options: Any) -> Text:
        """See Console."""
        return super().render_str(printable(text, lines=True), **options)

    def on_broken_pipe(self) -> None:
        """Raise the BrokenPipeError that is being handled; Rich would exit, and redirect stdout."""
        raise  # noqa: PLE0704


notes = SafeConsole(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)

PATIENCE = 1.0  # seconds without output until `waiting` shows something


def write(text: str, end: str = "\n") -> None:
    """Print a part of a text at once. Raises OSError.

    On a terminal, control characters are shown as escapes; in a file or pipe, `text` is exact.
    """
    emit(_shown(text), end, finished=False)


def _shown(text: str) -> str:
    return printable(text, lines=True) if sys.stdout.isatty() else text


def write_json(value: dict[str, Any]) -> None:
    """One JSON object, as ASCII if standard output does not take all characters."""
    emit(_shown(json.dumps(value, ensure_ascii=not is_unicode(sys.stdout), indent=2)))


def write_table(table: Table) -> None:
    """A table as wide as the terminal allows."""
    held = _Held()
    SafeConsole(file=held, highlight=False).print(table)
    emit(held.getvalue(), end="")


class _Held(io.StringIO):
    """What Rich writes for standard output; its own capture touches that, which may fail."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # typeshed: could be set
        """See TextIO."""
        return sys.stdout.encoding

    def isatty(self) -> bool:
        """See TextIO."""
        return sys.stdout.isatty()


@contextmanager
def waiting(words: str) -> Iterator[Callable[[], None]]:
    """Show `words` and a spinner on a terminal's standard error if the block takes over a second.

    The block calls what it is given once it prints something itself.
    """
    status = notes.status(words)
    timer = threading.Timer(PATIENCE, status.start)
    timer.daemon = True

    def stop() -> None:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        status.stop()

    if notes.is_terminal:
        timer.start()
    try:
        yield stop
    finally:
        stop()


def note(text: str, style: str) -> None:
    """Print a line to standard error. Nobody reads it there if that fails: no reason to fail too."""
    with suppress(OSError):
        notes.print(text, style=style)
