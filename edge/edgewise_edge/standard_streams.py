"""Standard output and error as command lines need them, whatever the environment says."""

import os
import sys
from typing import TextIO

PIPE_CLOSED = 141  # the exit status that shells report where the reader of an output is gone
_LARGEST = 9999  # columns or lines


class UnwrittenError(OSError):
    """Standard output cannot be written; `result` is what it should have taken."""

    def __init__(self, error: OSError, result: str) -> None:
        super().__init__(f"standard output cannot be written: {error.strerror or error}")
        self.result = result


def forget_invalid_size() -> None:
    """Unset COLUMNS and LINES that are no size: Rich would print nothing with 0, or fail.

    To be called before Rich's first console is made.
    """
    for name in ("COLUMNS", "LINES"):
        value = os.environ.get(name, "")
        if value.isdigit() and not (value.isascii() and 0 < int(value[:9]) <= _LARGEST):
            del os.environ[name]


def prepare_output() -> None:
    r"""Let standard output take any text: what its encoding lacks is written as `\u2014`.

    Raises OSError if it is closed: Python would print nothing, and say nothing.
    """
    if sys.stdout is None:
        raise OSError("standard output is closed")
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:  # not a stream that replaces it
        reconfigure(errors="backslashreplace")


def emit(text: str, end: str = "\n", *, finished: bool = True) -> None:
    """Print to standard output, at once. Raises UnwrittenError, or BrokenPipeError.

    `finished`: it is a result, which must not be lost: the error keeps it.
    """
    try:
        print(text, end=end, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwrittenError(error, text if finished else "") from error


def unwritten_result(error: Exception) -> str:
    """The result that an UnwrittenError keeps, for standard error; "" for any other error."""
    return error.result if isinstance(error, UnwrittenError) else ""


def exit_status(ended: SystemExit) -> int:
    """Its exit status. Typer and Rich make it 1 where the reader of an output is gone.

    It is then PIPE_CLOSED, or that of the error about which nobody could be told.
    """
    if isinstance(ended.__context__, BrokenPipeError):
        return getattr(ended.__context__.__context__, "exit_code", PIPE_CLOSED)
    return ended.code if isinstance(ended.code, int) else int(bool(ended.code))


def is_unicode(stream: TextIO) -> bool:
    """Whether it can encode every character."""
    return (stream.encoding or "").lower().startswith("utf")


def abandon(stream: TextIO | None) -> None:
    """Drop what a stream cannot write, or Python tries again when it exits, and complains."""
    if stream is None:
        return
    try:
        stream.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
