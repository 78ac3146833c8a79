"""Virtual time."""

import heapq
from collections.abc import Generator
from itertools import count
from typing import Any

# Yields the seconds that it waits.
Process = Generator[float, None, Any]


class Clock:
    """Runs processes in virtual time, each until it waits; a call gives the time in seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._order = count()  # what is due at the same time runs in the order it was started

    def __call__(self) -> float:
        return self._now

    def start(self, process: Process, at: float | None = None) -> None:
        due = self._now if at is None else at
        heapq.heappush(self._due, (due, next(self._order), process))

    def run(self) -> None:
        while self._due:
            self._now, _, process = heapq.heappop(self._due)
            try:
                wait = next(process)
            except StopIteration:
                continue
            self.start(process, self._now + wait)
