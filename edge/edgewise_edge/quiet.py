"""Keeping LiteRT's log lines off the app's standard error.

LiteRT 2.3 writes a dozen INFO lines when it loads a model and some more when the process ends,
and has no switch for it in Python.
"""

import contextlib
import ctypes
import functools
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect what native code writes to file descriptor 2; the list is filled at the end.

    It is the whole process's descriptor: what other threads write meanwhile is collected too.
    """
    lines: list[str] = []
    try:
        sys.stderr.flush()
        saved = os.dup(2)
    except (OSError, ValueError, AttributeError):  # an app without a standard error
        yield lines
        return
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            log.seek(0)
            lines += log.read().decode(errors="replace").splitlines()


@functools.cache
def silence_native_exit() -> None:
    """Close file descriptor 2 once Python has finished, before native libraries take leave.

    C runs its exit handlers last registered first, and all of them after Python's own: nothing
    that Python code writes is lost.
    """
    libc = ctypes.CDLL(None)
    at_exit = getattr(libc, "__cxa_atexit", None)  # not on Windows
    if at_exit:
        at_exit(libc.close, ctypes.c_void_p(2), None)
