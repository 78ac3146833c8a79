"""The places of generations that run on the device at once."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from edgewise.errors import DeviceBusyError
from edgewise.generation.attempt import Attempt
from edgewise.policy.types import PolicyLimits


class DeviceQueue:
    """Gives each attempt a place; those that may wait for one get it in their order. Thread-safe."""

    def __init__(self, lock: "threading.RLock | None" = None) -> None:
        self.running: list[Attempt] = []  # those that have a place
        self._waiting: deque[Attempt] = deque()
        # Re-entrant: garbage collection may end a stream at any point, in any thread.
        self._lock = lock or threading.RLock()
        self._changed = threading.Condition(self._lock)

    @property
    def waiting(self) -> int:
        """How many attempts wait for a place."""
        return len(self._waiting)

    @contextmanager
    def place(self, attempt: Attempt, limits: PolicyLimits | None) -> Iterator[None]:
        """A place until the context ends; there are `limits.max_queue` of them (None: no limit).

        Raises DeviceBusyError if there is none, in `limits.queue_timeout` if the attempt may wait.
        """
        with self._lock:
            if limits:
                self._await_place(attempt, limits)
            self.running.append(attempt)
            if len(self.running) > 1:
                for other in self.running:
                    other.alone = False
        try:
            yield
        finally:
            with self._lock:
                self.running.remove(attempt)
                self._changed.notify_all()

    def wait_until_idle(self, timeout: float) -> bool:
        """Wait until no attempt has a place; False after `timeout` seconds."""
        with self._lock:
            return self._changed.wait_for(lambda: not self.running, timeout)

    def _await_place(self, attempt: Attempt, limits: PolicyLimits) -> None:
        if len(self.running) < limits.max_queue and not self._waiting:
            return
        patience = limits.queue_timeout if attempt.may_wait else 0.0
        if not (patience and self._wait(attempt, limits.max_queue, patience)):
            waited = f" and there was no place within {patience:g} s" if patience else ""
            raise DeviceBusyError(
                f"the device is already running {len(self.running)} generations{waited}",
                # If the other source fails too, it is worth a wait.
                soft=not attempt.may_wait and limits.queue_timeout > 0,
            )

    def _wait(self, attempt: Attempt, places: int, patience: float) -> bool:
        """Whether it got a place, or was stopped and needs none."""

        def may_run() -> bool:
            first = self._waiting[0] is attempt
            return attempt.stop.is_set() or (first and len(self.running) < places)

        self._waiting.append(attempt)
        attempt.stop.add_callback(self._wake)
        try:
            return self._changed.wait_for(may_run, patience)
        finally:
            self._waiting.remove(attempt)
            self._changed.notify_all()  # the next one is first now

    def _wake(self) -> None:
        with self._lock:
            self._changed.notify_all()
