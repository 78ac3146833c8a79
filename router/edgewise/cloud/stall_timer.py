"""A timer that detects a stalled stream."""

import threading
import time
from collections.abc import Callable
from typing import Self

from edgewise.generation.attempt import FREEZE

_TICKS = 10  # in which the timer's thread wakes up before it reports, to notice a freeze


class StallTimer:
    """Calls `on_stall` once if `reset` was not called for `timeout` seconds.

    A context manager: it runs inside the block, in a thread of its own. `timeout` may be changed,
    and holds from the next `reset` on. Where the whole process was frozen (SIGSTOP, an app freezer),
    what has arrived meanwhile is not read yet: the time starts again, after a call of `on_thaw`.
    """

    def __init__(
        self,
        timeout: float,
        on_stall: Callable[[], object],
        on_thaw: Callable[[], object] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.timeout, self._on_stall, self._on_thaw = timeout, on_stall, on_thaw
        self.stalled = False
        self._clock = clock
        self._changed = threading.Condition()
        self._since = self._awake_at = clock()
        self._paused = self._closed = False

    @property
    def waited(self) -> float:
        """Seconds since the last reset, or since the process was frozen."""
        with self._changed:
            return self._waited()

    def reset(self) -> None:
        """Restart the timer; cheap enough to call for every token."""
        with self._changed:
            self._paused = False
            self._since = self._awake_at = self._clock()
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

    def _waited(self) -> float:
        """As `waited`; the caller holds the lock."""
        now = self._clock()
        if not self._paused and now - self._awake_at > self.timeout / _TICKS + FREEZE:
            self._since = now
            self._on_thaw()
        self._awake_at = now
        return now - self._since

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                left = self.timeout - self._waited()
                if left <= 0 and not self._paused:
                    self.stalled = True
                    break
                # Never without a limit: the garbage collector may end the block in this very thread,
                # between the check and the wait.
                tick = self.timeout / _TICKS
                self._changed.wait(self.timeout if self._paused else min(left, tick))
        if self.stalled:
            self._on_stall()
