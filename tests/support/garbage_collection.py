"""Streams that nobody holds any more, but that end only when Python looks for cycles."""

import gc
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager


def collect_within(lock: AbstractContextManager[object], streams: list[Iterator[object]]) -> bool:
    """Have the last reference to `streams` go in a cycle, found while `lock` is held.

    Whether that came to an end. The list is emptied: the caller must hold no stream itself.
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
    return collected.wait(60)
