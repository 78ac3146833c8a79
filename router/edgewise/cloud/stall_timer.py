"""A timer that detects a stalled stream."""

import threading
import time
from collections.abc import Callable
from typing import Self


class StallTimer:
    """Calls `on_stall` once if `reset` was not called for `timeout` seconds.

    A context manager: it runs inside the block, in a thread of its own. `timeout` may be changed,
    and holds from the next `reset` on.
    """

    def __init__(self, timeout: float, on_stall: Callable[[], object]) -> None:
        self.timeout, self._on_stall = timeout, on_stall
        self.stalled = False
        self._changed = threading.Condition()
        self._since = time.monotonic()
        self._paused = self._closed = False

    @property
    def waited(self) -> float:
        """Seconds since the last reset."""
        return time.monotonic() - self._since

    def reset(self) -> None:
        """Restart the timer; cheap enough to call for every token."""
        with self._changed:
            self._paused = False
            self._since = time.monotonic()
            self._changed.notify()

    def pause(self) -> None:
        """Stop the timer until the next reset."""
        with self._changed:
            self._paused = True

    def __enter__(self) -> Self:
        """Start the timer."""
        threading.Thread(target=self._watch, name="edgewise-stall-timer", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the timer and its thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._since + self.timeout - time.monotonic()
                if left <= 0 and not self._paused:
                    self.stalled = True
                    break
                # Never without a limit: the garbage collector may end the block in this very thread,
                # between the check and the wait.
                self._changed.wait(self.timeout if self._paused else left)
        if self.stalled:
            self._on_stall()
