"""A circuit breaker: after several failures in a row, requests avoid the cloud for a while."""

import threading
import time
from collections.abc import Callable
from enum import StrEnum


class Circuit(StrEnum):
    """The state of the circuit."""

    CLOSED = "closed"  # all requests may pass
    OPEN = "open"  # none may
    HALF_OPEN = "half_open"  # one trial may, and decides for the others


class CircuitBreaker:
    """Opens after `threshold` failures in a row.

    It is half open after `allow_trial`, and in any case `cooldown` seconds after the last failure.
    Reading its state never blocks.
    """

    def __init__(
        self,
        threshold: int = 3,
        cooldown: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threshold, self._cooldown, self._clock = threshold, cooldown, clock
        # Re-entrant: the garbage collector may end a stream, which releases a permit, at any point.
        self.lock = threading.RLock()
        self.failures = 0  # in a row
        self._trial_from = 0.0
        self._trial: object = None  # the permit of the request that is the trial

    @property
    def state(self) -> Circuit:
        """The current state."""
        if self.failures < self._threshold:
            return Circuit.CLOSED
        return Circuit.OPEN if self._clock() < self._trial_from else Circuit.HALF_OPEN

    @property
    def open(self) -> bool:
        """Whether a request would get no permit; also while a trial is running."""
        state = self.state
        return state is Circuit.OPEN or (state is Circuit.HALF_OPEN and self._trial is not None)

    def acquire(self) -> object | None:
        """A permit for one request, to be released when it ends; None while the circuit is open."""
        with self.lock:
            if self.open:
                return None
            permit = object()
            if self.state is Circuit.HALF_OPEN:
                self._trial = permit
            return permit

    def succeeded(self) -> None:
        """A request was answered. Closes the circuit."""
        if self.failures or self._trial:  # without the lock: called for every token
            with self.lock:
                self.failures, self._trial = 0, None

    def failed(self) -> bool:
        """A request was not answered. Returns whether this opened the circuit."""
        with self.lock:
            was_open = self.state is Circuit.OPEN
            self.failures += 1
            self._trial_from = self._clock() + self._cooldown
            self._trial = None
            return not was_open and self.state is Circuit.OPEN

    def release(self, permit: object) -> None:
        """A request has ended. If it was a trial without an outcome, allow another one."""
        with self.lock:
            if self._trial is permit:
                self._trial = None

    def allow_trial(self) -> None:
        """The cloud looks healthy: end the cooldown and let one request try."""
        with self.lock:
            self._trial_from = self._clock()
