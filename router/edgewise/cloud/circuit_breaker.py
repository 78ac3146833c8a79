"""A circuit breaker: after some failures in a row, leave the cloud alone until it is well again."""

import threading
import time
from collections.abc import Callable
from enum import StrEnum


class Circuit(StrEnum):
    """What requests may do."""

    CLOSED = "closed"  # all may pass
    OPEN = "open"  # none may
    HALF_OPEN = "half_open"  # one may try, and settles it for the others


class CircuitBreaker:
    """Opens after `threshold` failures in a row.

    It is half open when `rested` was called, and in any case `rest` seconds after the last failure.
    Reading its state waits for nothing.
    """

    def __init__(
        self,
        threshold: int = 3,
        rest: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold, self._rest, self._clock = threshold, rest, clock
        # Re-entrant, since a stream may be collected, and end, in the middle of anything.
        self._lock = threading.RLock()
        self._failures = 0
        self._closed_from = 0.0
        self._trial: object = None

    @property
    def state(self) -> Circuit:
        """What it is now."""
        if self._failures < self._threshold:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._closed_from else Circuit.HALF_OPEN

    @property
    def open(self) -> bool:
        """Whether a request had better stay away: also while another one is trying."""
        state = self.state
        return state is Circuit.OPEN or (state is Circuit.HALF_OPEN and self._trial is not None)

    def enter(self) -> object | None:
        """A pass for a request that may go now. It must succeed, fail, or be withdrawn."""
        with self._lock:
            if self.open:
                return None
            entry = object()
            if self.state is Circuit.HALF_OPEN:
                self._trial = entry
            return entry

    def succeeded(self) -> None:
        """A request was answered."""
        if self._failures or self._trial:  # every token says so
            with self._lock:
                self._failures, self._trial = 0, None

    def failed(self) -> bool:
        """A request was not answered; whether this opened it."""
        with self._lock:
            was_open = self.state is Circuit.OPEN
            self._failures += 1
            self._closed_from = self._clock() + self._rest
            self._trial = None
            return not was_open and self.state is Circuit.OPEN

    def withdrawn(self, entry: object) -> None:
        """A request has ended, perhaps without telling anything: then another one may try."""
        with self._lock:
            if self._trial is entry:
                self._trial = None

    def rested(self) -> None:
        """The cloud looks well again: one may try."""
        with self._lock:
            self._closed_from = self._clock()
