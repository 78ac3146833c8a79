"""Watches a running attempt in a separate thread, so that no token waits for a check."""

import logging
import queue
import threading
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Self

from edgewise.generation.attempt import FREEZE, Attempt
from edgewise.policy.types import Veto

log = logging.getLogger("edgewise")

POLL_INTERVAL = 0.25  # seconds
BUDGET_POLL_INTERVAL = 0.05  # seconds, for a request with a latency budget


class HandoffMonitor:
    """A context manager: hands `attempt` off when `check` returns a veto.

    `check` is called every `interval` seconds, and at `check_now`.
    """

    def __init__(self, attempt: Attempt, check: Callable[[], Veto | None], interval: float) -> None:
        self._attempt, self._check, self._interval = attempt, check, interval
        # Not an Event: garbage collection may end a stream, and so its monitor, in the monitor's own
        # thread while that holds an Event's lock. SimpleQueue.put is re-entrant.
        self._signals: queue.SimpleQueue[bool] = queue.SimpleQueue()  # True: the attempt ended

    def __enter__(self) -> Self:
        """Start the thread."""
        threading.Thread(target=self._watch, name="edgewise-monitor", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the thread, without waiting for it."""
        self._signals.put(True)

    def check_now(self, interval: float) -> None:
        """Check without waiting, and then every `interval` seconds; from any thread."""
        self._interval = interval
        self._signals.put(False)

    def _watch(self) -> None:
        logged: type[Exception] | None = None
        while not self._is_done():
            try:
                veto = self._check()
            except Exception as error:  # noqa: BLE001  # the next check may succeed
                if type(error) is not logged:  # not for every check
                    logged = type(error)
                    log.warning("a check of the running attempt failed: %s", logged.__name__)
                continue
            if veto:
                self._attempt.hand_off(veto)
                return

    def _is_done(self) -> bool:
        """Wait for the next check; whether the attempt ended meanwhile."""
        started, interval = monotonic(), self._interval
        try:
            return self._signals.get(timeout=interval)
        except queue.Empty:
            if monotonic() - started > interval + FREEZE:
                self._attempt.thawed()
            return False
