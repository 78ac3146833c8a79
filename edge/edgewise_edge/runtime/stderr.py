"""Standard error while native libraries run: their log lines stay off it, and a crash leaves one.

LiteRT 2.3 writes a dozen INFO lines when it loads a model and a few more at exit, and has no
option in Python to turn them off.
"""

import contextlib
import ctypes
import faulthandler
import functools
import os
import re
import sys
import threading
from collections.abc import Iterator

# LiteRT's and TensorFlow's own lines, and the continuation of a LiteRT error.
NATIVE_LINE = re.compile(r"(INFO|WARNING|ERROR|VERBOSE): |[IWEF]\d{4} |└|To enable the following")
_BUFFER_SIZE = 2**18  # bytes; what does not fit goes to standard error
_FULLY_BUFFERED, _UNBUFFERED = 0, 2  # _IOFBF and _IONBF of <stdio.h>
_lock = threading.RLock()


@contextlib.contextmanager
def held_native_logs() -> Iterator[list[str]]:
    """Collect the log lines that native libraries write to C's `stderr`; filled on exit.

    Only C's buffer holds them: file descriptor 2 stays what it is, for Python, for child processes
    and for the report of a crash. Lines of other libraries are written on exit. Where the C library
    is not glibc, nothing is held.
    """
    lines: list[str] = []
    with _lock:
        stream = _c_stderr()
        if stream is None or not stream.hold():
            yield lines
            return
        try:
            yield lines
        finally:
            for line in stream.release().decode(errors="replace").splitlines(keepends=True):
                if NATIVE_LINE.match(line):
                    lines.append(line.rstrip("\n"))
                else:
                    with contextlib.suppress(OSError):
                        os.write(2, line.encode(errors="replace"))


def report_crashes() -> None:
    """Have a crash in native code leave its lines on standard error, as `python -X faulthandler`.

    A handler that the app has installed for such signals runs after it.
    """
    # There may be no standard error, and then there is nobody to tell.
    with contextlib.suppress(AttributeError, OSError, RuntimeError, ValueError):
        if not faulthandler.is_enabled() and sys.__stderr__ and sys.__stderr__.fileno() == 2:
            faulthandler.enable(sys.__stderr__, all_threads=False)


def silence_native_exit() -> None:
    """Close file descriptor 2 after Python has finished, before native exit handlers log to it.

    C runs exit handlers in reverse order of registration, all after Python's own, so nothing that
    Python code writes is lost. Call it after each load: the first that goes far enough registers
    LiteRT's.
    """
    libc = ctypes.CDLL(None)
    at_exit = getattr(libc, "__cxa_atexit", None)  # not on Windows
    if at_exit:
        at_exit(libc.close, ctypes.c_void_p(2), None)


class _CStderr:
    """C's `stderr`, an unbuffered stream, whose buffer we can set, read and empty."""

    def __init__(self, libc: ctypes.CDLL) -> None:
        self._stream = ctypes.c_void_p.in_dll(libc, "stderr")
        self._set_buffer = libc["setvbuf"]
        self._purge, self._pending = libc["__fpurge"], libc["__fpending"]
        self._seek = libc["fseek"]
        self._seek.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_int]
        self._set_buffer.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_size_t,
        ]
        self._pending.restype = ctypes.c_size_t
        self._held = False
        self._buffer = ctypes.create_string_buffer(_BUFFER_SIZE)  # outlives every use by C

    def hold(self) -> bool:
        """Keep what is written to the stream; False if it is being kept already."""
        if self._held:
            return False
        self._held = not self._set_buffer(self._stream, self._buffer, _FULLY_BUFFERED, _BUFFER_SIZE)
        # After an earlier write, glibc would use the buffer from the second line on only. Seeking to
        # where it is makes the stream begin afresh; on a pipe or a terminal that fails, and does too.
        self._seek(self._stream, 0, os.SEEK_CUR)
        return self._held

    def release(self) -> bytes:
        """Write through again; what was kept."""
        kept = self._buffer.raw[: self._pending(self._stream)]
        self._purge(self._stream)
        self._set_buffer(self._stream, None, _UNBUFFERED, 0)
        self._held = False
        return kept


@functools.cache
def _c_stderr() -> _CStderr | None:
    try:
        return _CStderr(ctypes.CDLL(None))
    except (AttributeError, OSError, TypeError, ValueError):  # not glibc
        return None
