"""Probes a cloud that failed until it is healthy again, in the background."""

import random
import threading
import time
from collections.abc import Callable

MIN_INTERVAL = 0.5  # seconds until the first probe
IDLE_AFTER = 60.0  # seconds without demand after which probing ends


class HealthProbe:
    """Calls `probe` in a thread of its own until it returns True.

    Intervals double up to `max_interval` seconds, with jitter so that devices that lost a cloud at
    the same time do not return at the same time. Probing ends if `record_demand` has not been
    called for a minute: an idle device stays off the network.
    """

    def __init__(self, probe: Callable[[], bool], max_interval: float) -> None:
        self._probe, self._max_interval = probe, max_interval
        self._lock = threading.Lock()
        self.running = False
        self._closed = threading.Event()
        self._demand_at = 0.0

    def record_demand(self) -> None:
        """A request could have used the cloud."""
        self._demand_at = time.monotonic()

    def start(self) -> None:
        """Start probing, unless it is running already."""
        with self._lock:
            if not self.running and not self._closed.is_set():
                self.running = True
                self.record_demand()
                threading.Thread(
                    target=self._run, name="edgewise-health-probe", daemon=True
                ).start()

    def close(self) -> None:
        """Stop probing for good."""
        self._closed.set()

    def _run(self) -> None:
        interval = min(MIN_INTERVAL, self._max_interval)
        try:
            while not self._closed.wait(interval * random.uniform(0.5, 1)):  # noqa: S311  # no secret
                if time.monotonic() - self._demand_at > IDLE_AFTER or self._probe():
                    return
                interval = min(2 * interval, self._max_interval)
        finally:
            with self._lock:
                self.running = False
