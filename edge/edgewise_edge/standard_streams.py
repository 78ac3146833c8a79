"""Standard output and error as command lines need them, whatever the environment says."""

import os
import sys
from typing import TextIO

_LARGEST = 9999  # columns or lines


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
