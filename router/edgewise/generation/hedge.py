"""Runs both sources: the attempt that has a token first wins, the other is stopped."""

import logging
import queue
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from edgewise.errors import Failure
from edgewise.generation.attempt import Attempt

log = logging.getLogger("edgewise")

# Called for an attempt that ended without a token while the other one runs, with its failure.
Ended = Callable[[Attempt, Exception | None], object]


def hedge(
    first: Attempt, after: float, open_other: Callable[[], Attempt | None], ended: Ended
) -> Attempt:
    """Run `first`, and after `after` seconds without a token also the attempt of `open_other`.

    Returns the attempt that had a token first, ready to be iterated. If none had, returns the last
    one to end, whose iteration raises its error. An error that is no Failure is a bug, which the
    app must see as without hedging: the attempt is returned at once. The other is stopped.
    """
    running = Hedge()
    try:
        running.start(first)
        arrived = running.wait(after)
        if arrived is None:
            if other := open_other():
                running.start(other)
            arrived = running.wait()
        while arrived and running.count and not (arrived.has_token or arrived.bug):
            ended(arrived.attempt, arrived.failure)
            arrived = running.wait()
        returned = arrived.attempt if arrived else first
        running.stop_all(but=returned)
    except BaseException:
        running.stop_all()
        raise
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
                self._close()

    def stop(self) -> None:
        """Stop it. Its work ends after the current step."""
        self.attempt.stop.set()
        with self._lock:
            self._stopped = True
            if self._arrived:
                self._close()

    @property
    def failure(self) -> Exception | None:
        """The error after which the other source may still answer."""
        error = self.attempt.prefetch_error
        return error if isinstance(error, Failure) else None

    @property
    def bug(self) -> BaseException | None:
        """Any other error."""
        return None if self.failure else self.attempt.prefetch_error

    def _close(self) -> None:
        if self.bug:  # nobody else sees it; only its type, since a message could quote anything
            log.error(
                "%s lost a hedge and failed: %s", self.attempt.source, type(self.bug).__name__
            )
        self.attempt.close()


class Hedge:
    """Runs attempts concurrently, each up to its first token in a thread of its own."""

    def __init__(self) -> None:
        self._arrivals: queue.SimpleQueue[HedgedAttempt] = queue.SimpleQueue()
        self._attempts: list[HedgedAttempt] = []
        self.count = 0  # of those that run

    def start(self, attempt: Attempt) -> None:
        """Run it."""
        hedged = HedgedAttempt(attempt)
        self._attempts.append(hedged)
        self.count += 1
        threading.Thread(
            target=self._run, args=(hedged,), name="edgewise-hedge", daemon=True
        ).start()

    def wait(self, timeout: float | None = None) -> HedgedAttempt | None:
        """The next attempt to have a token or to end without one; None after `timeout` seconds."""
        if not self.count:
            return None
        with suppress(queue.Empty):
            hedged = self._arrivals.get(timeout=timeout)
            self.count -= 1
            return hedged
        return None

    def stop_all(self, but: Attempt | None = None) -> None:
        """Stop all but one."""
        with ExitStack() as stops:  # all, even if one raises
            for hedged in self._attempts:
                if hedged.attempt is not but:
                    stops.callback(hedged.stop)

    def _run(self, hedged: HedgedAttempt) -> None:
        hedged.run()
        self._arrivals.put(hedged)
