"""Two sides asked for the same token: the first to have it wins, and the other is stopped."""

import queue
import threading
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field

from edgewise.generation.attempt import Attempt


@dataclass(slots=True, eq=False)
class Lane:
    """A side's run. In a race it is begun in a thread of its own, and finished in the reader's."""

    attempt: Attempt
    tokens: Generator[int, None, None]
    token: int | None = None  # the first, in a race
    error: Exception | None = None  # one of errors.Failure, or a mistake of ours
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _arrived: bool = False
    _dismissed: bool = False

    def run(self) -> None:
        """Get as far as the first token."""
        try:
            self.token = next(self.tokens, None)
        except Exception as error:  # noqa: BLE001  # for the reader's thread to raise
            self.error = error
        with self._lock:
            self._arrived = True
            if self._dismissed:
                self.tokens.close()

    def dismiss(self) -> None:
        """Stop it; its work ends after the step in hand."""
        self.attempt.stop.set()
        with self._lock:
            self._dismissed = True
            if self._arrived:
                self.tokens.close()


class Race:
    """Lanes that run until one has a token; ends with its `with`, for all but the winner."""

    def __init__(self) -> None:
        self._arrivals: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        self._lanes: list[Lane] = []
        self._running = 0

    def enter(self, lane: Lane) -> None:
        """Start it."""
        self._lanes.append(lane)
        self._running += 1
        threading.Thread(target=self._run, args=(lane,), name="edgewise-race", daemon=True).start()

    def wait(self, seconds: float | None = None) -> Lane | None:
        """The next lane to arrive, with a token or without; None if none does in time."""
        if not self._running:
            return None
        with suppress(queue.Empty):
            lane = self._arrivals.get(timeout=seconds)
            self._running -= 1
            return lane
        return None

    def dismiss(self, winner: Lane | None = None) -> list[Lane]:
        """Stop all but the winner; those that were."""
        losers = [lane for lane in self._lanes if lane is not winner]
        for lane in losers:
            lane.dismiss()
        return losers

    def _run(self, lane: Lane) -> None:
        lane.run()
        self._arrivals.put(lane)
