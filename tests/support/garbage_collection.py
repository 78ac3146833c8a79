"""Streams that nobody holds any more, but that are freed only by the cycle collector."""

import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager


def collect_within(lock: AbstractContextManager[object], streams: list[Iterator[object]]) -> bool:
    """Put the last reference to `streams` into a cycle and collect it while `lock` is held.

    Returns whether that ended rather than deadlocked. The list is emptied: the caller must hold no
    stream itself.
    """
    cycle: list[object] = [*streams]
    cycle.append(cycle)
    streams.clear()
    del cycle
    collected = threading.Event()

    def collect() -> None:
        with lock:
            gc.collect()
        collected.set()

    threading.Thread(target=collect, daemon=True).start()
    return collected.wait(300)
