"""Runs both sources: the attempt that has a token first wins, the other is stopped."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from edgewise.generation.attempt import Attempt
from edgewise.generation.events import Outcome

# Called for each attempt that did not win: how it ended, and its error if it failed.
Ended = Callable[[Attempt, Outcome, Exception | None], object]


def hedge(
    first: Attempt, after: float, open_other: Callable[[], Attempt | None], ended: Ended
) -> Attempt:
    """Run `first`, and after `after` seconds without a token also the attempt of `open_other`.

    Returns the attempt that had a token first, ready to be iterated. If none had, returns the last
    one to end, whose iteration raises its error. The other is stopped.
    """
    running, winner, failed = Hedge(), None, list[Attempt]()
    returned: Attempt | None = None
    try:
        running.start(first)
        winner = running.wait(after)
        if winner is None:
            if other := open_other():
                running.start(other)
            winner = running.wait()
        while winner and not winner.has_token and (later := running.wait()):
            if winner.attempt.prefetch_error:
                failed.append(winner.attempt)
                ended(winner.attempt, Outcome.FAILED, winner.attempt.prefetch_error)
            winner = later
        returned = winner.attempt if winner else first
    finally:
        for loser in running.stop_all(but=returned):
            # The caller reports the attempt that is returned, and `first` where this raises.
            if loser not in failed and (returned or loser is not first):
                ended(loser, Outcome.LOST, None)
    return returned


@dataclass(slots=True, eq=False)
class HedgedAttempt:
    """An attempt that gets its first token in a thread of its own."""

    attempt: Attempt
    has_token: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _arrived: bool = False
    _stopped: bool = False

    def run(self) -> None:
        """Run up to the first token."""
        self.has_token = self.attempt.prefetch()
        with self._lock:
            self._arrived = True
            if self._stopped:
                self.attempt.close()

    def stop(self) -> None:
        """Stop it. Its work ends after the current step."""
        self.attempt.stop.set()
        with self._lock:
            self._stopped = True
            if self._arrived:
                self.attempt.close()


class Hedge:
    """Runs attempts concurrently, each up to its first token in a thread of its own."""

    def __init__(self) -> None:
        self._arrivals: queue.SimpleQueue[HedgedAttempt] = queue.SimpleQueue()
        self._attempts: list[HedgedAttempt] = []
        self._running = 0

    def start(self, attempt: Attempt) -> None:
        """Run it."""
        hedged = HedgedAttempt(attempt)
        self._attempts.append(hedged)
        self._running += 1
        threading.Thread(
            target=self._run, args=(hedged,), name="edgewise-hedge", daemon=True
        ).start()

    def wait(self, timeout: float | None = None) -> HedgedAttempt | None:
        """The next attempt to have a token or to end without one; None after `timeout` seconds."""
        if not self._running:
            return None
        with suppress(queue.Empty):
            hedged = self._arrivals.get(timeout=timeout)
            self._running -= 1
            return hedged
        return None

    def stop_all(self, but: Attempt | None) -> list[Attempt]:
        """Stop all but one. Returns those that were stopped."""
        losers = [hedged for hedged in self._attempts if hedged.attempt is not but]
        for loser in losers:
            loser.stop()
        return [loser.attempt for loser in losers]

    def _run(self, hedged: HedgedAttempt) -> None:
        hedged.run()
        self._arrivals.put(hedged)
