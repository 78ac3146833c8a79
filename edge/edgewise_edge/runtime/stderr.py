"""Keeping the log lines of native libraries off the app's standard error.

LiteRT 2.3 writes a dozen INFO lines when it loads a model and a few more at exit, and has no
option in Python to turn them off.
"""

import contextlib
import ctypes
import functools
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import IO

# LiteRT's and TensorFlow's own lines, and the continuation of a LiteRT error.
_NATIVE = re.compile(r"(INFO|WARNING|ERROR|VERBOSE): |[IWEF]\d{4} |└|To enable the following")
_lock = threading.RLock()  # re-entrant: a conversion captures, and so does the load inside it


@contextlib.contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect the lines that native libraries write to file descriptor 2; filled on exit.

    The descriptor belongs to the whole process: all other lines are written to it on exit.
    """
    lines: list[str] = []
    with _lock, contextlib.ExitStack() as stack:
        try:
            sys.stderr.flush()
            saved = os.dup(2)
            log = stack.enter_context(_memory_file())
        except (OSError, ValueError, AttributeError):  # no standard error, or nowhere to write
            yield lines
            return
        os.dup2(log.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            log.seek(0)
            for line in log.read().decode(errors="replace").splitlines(keepends=True):
                if _NATIVE.match(line):
                    lines.append(line.rstrip("\n"))
                else:
                    os.write(2, line.encode(errors="replace"))


def _memory_file() -> IO[bytes]:
    """A file in memory where the system has such files, else a temporary one."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("edgewise-log"), "w+b")
    return tempfile.TemporaryFile()


@functools.cache
def silence_native_exit() -> None:
    """Close file descriptor 2 after Python has finished, before native exit handlers log to it.

    C runs exit handlers in reverse order of registration, all after Python's own, so nothing that
    Python code writes is lost.
    """
    libc = ctypes.CDLL(None)
    at_exit = getattr(libc, "__cxa_atexit", None)  # not on Windows
    if at_exit:
        at_exit(libc.close, ctypes.c_void_p(2), None)
