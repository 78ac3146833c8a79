"""Looks whether a cloud that failed is well again, in the background and not for ever."""

import random
import threading
import time
from collections.abc import Callable

SHORTEST = 0.5  # seconds until the first look
UNWANTED = 60.0  # seconds after which a cloud that nobody asks for is not looked after any more


class HealthProbe:
    """Calls `look` in a thread of its own, ever less often, until it says True.

    The pauses double up to `interval` seconds, each shortened by chance so that devices which lost
    a cloud together do not come back together. It ends by itself when `wanted` has not been called
    for a minute: a device at rest stays off the network.
    """

    def __init__(self, look: Callable[[], bool], interval: float) -> None:
        self._look, self._interval = look, interval
        self._lock = threading.Lock()
        self._running = False
        self._closed = threading.Event()
        self._wanted_at = 0.0

    def wanted(self) -> None:
        """Someone would have liked to use the cloud."""
        self._wanted_at = time.monotonic()

    def start(self) -> None:
        """Begin to look, unless it does already."""
        with self._lock:
            if not self._running and not self._closed.is_set():
                self._running = True
                self.wanted()
                threading.Thread(target=self._run, name="edgewise-prober", daemon=True).start()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()

    def _run(self) -> None:
        pause = min(SHORTEST, self._interval)
        try:
            while not self._closed.wait(pause * random.uniform(0.5, 1)):  # noqa: S311  # no secret
                if time.monotonic() - self._wanted_at > UNWANTED or self._look():
                    return
                pause = min(2 * pause, self._interval)
        finally:
            with self._lock:
                self._running = False
