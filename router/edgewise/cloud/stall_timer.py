"""Giving up on someone who falls silent."""

import threading
import time
from collections.abc import Callable
from typing import Self


class StallTimer:
    """Calls `bite` once when `feed` was not called for `patience` seconds; ends with its `with`.

    `patience` may be changed, and holds from the next `feed` on.
    """

    def __init__(self, patience: float, bite: Callable[[], object]) -> None:
        self.patience, self._bite = patience, bite
        self._fed = threading.Event()
        self._done = self._resting = False
        self._fed_at = time.monotonic()
        self.bit = False

    @property
    def waited(self) -> float:
        """Seconds since it was fed."""
        return time.monotonic() - self._fed_at

    def feed(self) -> None:
        """Start the wait anew; cheap enough for every token."""
        self._resting = False
        self._fed_at = time.monotonic()
        self._fed.set()

    def rest(self) -> None:
        """Do not wait until it is fed again."""
        self._resting = True
        self._fed.set()

    def __enter__(self) -> Self:
        """Begin to wait."""
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait no more."""
        self._done = True
        self._fed.set()

    def _watch(self) -> None:
        while self._fed.wait(None if self._resting else self.patience):
            self._fed.clear()  # first: what is said from here on is seen in the next round
            if self._done:
                return
        self.bit = True
        self._bite()
