"""Compiling programs: enough before the first request, which must not wait, and the rest meanwhile."""

import contextlib
import ctypes
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed

from edgewise_cloud.console import LineProgress, Progress
from edgewise_cloud.serving.model import program_cache
from edgewise_cloud.serving.model.interface import Compilations, Programs

log = logging.getLogger("edgewise_cloud.serving.model")

# Seconds for which Python's lock may be kept from a step while another thread traces a program.
_SWITCH_INTERVAL = 0.0005
_NICE = 10


class _ShortWaits:
    """While any thread is within, Python's lock is given up more often."""

    def __init__(self) -> None:
        self._lock, self._within, self._before = threading.Lock(), 0, 0.0

    def __enter__(self) -> None:
        with self._lock:
            if not self._within:
                self._before = sys.getswitchinterval()
                sys.setswitchinterval(_SWITCH_INTERVAL)
            self._within += 1

    def __exit__(self, *_raised: object) -> None:
        with self._lock:
            self._within -= 1
            if not self._within:
                sys.setswitchinterval(self._before)


_short_waits = _ShortWaits()


def compile_first(compilations: Compilations, progress: Progress) -> None:
    """Compile what is needed for every request, on two cores if they are there."""
    first = compilations.first
    if not first:
        return
    progress.step("compiling")
    progress.count(0, len(first))
    with program_cache.compiling(), ThreadPoolExecutor(2, "compiler") as pool:
        compiling = [pool.submit(compile_) for compile_ in first]
        try:
            for number, done in enumerate(as_completed(compiling), start=1):
                done.result()
                progress.count(number, len(first))
        finally:
            pool.shutdown(cancel_futures=True)
    _free_memory()


def compile_later(compilations: Compilations, closed: Callable[[], bool]) -> bool:
    """Compile the rest, one by one, with what time running requests leave, and log how far it is.

    For a thread of its own. False if it stopped early, as `closed()` said.
    """
    count, total = len(compilations.first), len(compilations.first) + len(compilations.later)
    started, progress = time.monotonic(), LineProgress(log.info)
    _yield_to_others()
    progress.step("compiling the other programs while serving")
    with _short_waits:
        for number, compile_ in enumerate(compilations.later, start=count + 1):
            if closed():
                return False
            progress.count(number - 1, total)
            with program_cache.compiling():
                compile_()
            _free_memory()
    log.info("compiled all %d programs after %.0f s of serving", total, time.monotonic() - started)
    return True


def step_times(programs: Programs, size: int, progress: Progress) -> list[float]:
    """Seconds of a few steps over `size` slots."""
    progress.step("warming up: timing a few steps")
    return [_timed(programs, size) for _ in range(3)]


def _timed(programs: Programs, size: int) -> float:
    started = time.perf_counter()
    programs.decode([0] * size, [0] * size, programs.layout.contexts[0])
    return time.perf_counter() - started


def _free_memory() -> None:
    """Give back what compiling took."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):  # where the C library is another one
        ctypes.CDLL(None).malloc_trim(0)


def _yield_to_others() -> None:
    """Give this thread a tenth of a step's share of the processor, where threads have their own.

    Not less: it holds Python's lock while it traces, and others would wait for it.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a sandbox may refuse it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
