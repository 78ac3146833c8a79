"""A circuit breaker: after some failures in a row, leave the cloud alone for a while."""

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Opens after `threshold` failures in a row, for `rest` seconds.

    After that requests may try again; the next failure opens it at once, a success closes it.
    """

    def __init__(
        self,
        threshold: int = 3,
        rest: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold, self._rest, self._clock = threshold, rest, clock
        self._lock = threading.Lock()
        self._failures = 0
        self._closed_from = 0.0

    @property
    def open(self) -> bool:
        """Whether to stay away; reading it never waits for anything."""
        return self._failures >= self._threshold and self._clock() < self._closed_from

    def succeeded(self) -> None:
        """A request was answered."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """A request was not answered."""
        with self._lock:
            self._failures += 1
            self._closed_from = self._clock() + self._rest
