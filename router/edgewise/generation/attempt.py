"""One source's attempt at a generation: its tokens, its timing, and how another thread stops it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self, TypedDict, TypeVar

from edgewise.errors import SourceFailedError
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import UNKNOWN, PolicyLimits, PredictedTime, Progress, Source, Veto
from edgewise_edge.decoding.token_score import TokenScore

_MIN_MEASURED_TOKENS = (
    8  # tokens after which the measured time per token replaces the predicted one
)
# Seconds by which a thread wakes too late if the whole process was frozen, not merely busy.
FREEZE = 0.5


Started = TypeVar("Started")


class StopSignal(threading.Event):
    """An event with callbacks, to wake code that is blocked on something else."""

    def __init__(self) -> None:
        super().__init__()
        # Re-entrant: the garbage collector may end a stream at any point, in any thread.
        self._lock = threading.RLock()
        self._callbacks: list[Callable[[], object]] = []
        self._cancels: list[Callable[[], object]] = []  # called with the lock held

    def set(self) -> None:
        """Set it and run the callbacks, once: all of them, even if one raises.

        When it returns, in whichever thread, what `start_unless_set` started is cancelled.
        """
        with self._lock, ExitStack() as calls:
            super().set()
            callbacks, self._callbacks = self._callbacks, []
            cancels, self._cancels = self._cancels, []
            for cancel in cancels:
                calls.callback(cancel)
        with ExitStack() as calls:
            for callback in reversed(callbacks):
                calls.callback(callback)

    def add_callback(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the signal is set, or now if it already is."""
        with self._lock:
            if not self.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def start_unless_set(
        self, start: Callable[[], Started], cancel: Callable[[Started], object]
    ) -> Started | None:
        """What `start` returns, or None, without calling it, once the signal is set.

        Setting the signal waits for `start`, so neither may block, and then calls `cancel` with what
        it returned: nothing goes on after that.
        """
        with self._lock:
            if self.is_set():
                return None
            started = start()
            if self.is_set():  # by the garbage collector, in this thread
                cancel(started)
            else:
                self._cancels.append(lambda: cancel(started))
            return started


class AttemptOptions(TypedDict, total=False):
    """What the generation loop knows about an attempt. All may be left out."""

    predicted: PredictedTime
    timeout: float | None  # seconds after which no more tokens are needed
    traceparent: str | None  # the W3C trace it belongs to
    limits: PolicyLimits | None  # of the device: `max_queue` and `queue_timeout` are for its queue
    may_wait: bool  # for a place in a full queue: no other source may answer
    what_if: bool  # the state of the device is made up for this request: no other may notice


@dataclass(slots=True, eq=False)
class Attempt:
    """A context manager: iterate over it for the new tokens; leaving it ends the source's work.

    `run` generates the tokens and may raise one of errors.Failure. It is called when the first
    token is requested; nothing runs before. Where the request asks for `logprobs`, it adds each
    token's score to `scores` before it yields the token. Times are in seconds, without the time that
    the caller takes between tokens.
    """

    source: Source
    position: int  # of the first new token: prompt and answer so far
    max_tokens: int  # new ones
    run: "Callable[[Attempt], Generator[int, None, None]]" = field(repr=False)  # may hold a prompt
    predicted: PredictedTime = UNKNOWN
    timeout: float | None = None
    traceparent: str | None = None
    limits: PolicyLimits | None = None
    may_wait: bool = False
    what_if: bool = False
    started: float = field(default_factory=time.monotonic)
    stop: StopSignal = field(default_factory=StopSignal)
    handoff: Veto | None = None  # why it was stopped, if the other source is to continue
    uncached: int = 0  # tokens of the prompt and answer so far that were not in a prefix cache
    load_time: float = 0.0  # to load a model first
    queued: float = 0.0  # the part of `first_token` spent in the service's queue, if reported
    alone: bool = True  # whether no other generation ran on the device at the same time
    tokens: int = 0
    scores: deque[TokenScore] = field(
        default_factory=deque, repr=False
    )  # not read yet; if asked for
    first_token: float | None = None  # from the moment the source was ready
    decode_time: float = 0.0  # from the first token to the last
    waiting_since: float | None = None  # time.monotonic() while a token is awaited
    thawed_at: float | None = None  # time.monotonic() when the process was last frozen until
    timed_out: bool = False  # it was stopped because it had no token in time
    _generator: Generator[int, None, None] | None = field(default=None, repr=False)
    _prefetched: int | BaseException | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Return itself; nothing runs yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the work."""
        self.close()

    def __iter__(self) -> Self:
        """Return itself."""
        return self

    def __next__(self) -> int:
        """The next token, timed."""
        prefetched, self._prefetched = self._prefetched, None
        if isinstance(prefetched, BaseException):
            raise prefetched
        if prefetched is not None:
            return prefetched
        if self._generator is None:
            self._generator = self.run(self)
        self.waiting_since = time.monotonic()
        try:
            token = next(self._generator)
            waited = time.monotonic() - self.waiting_since
        finally:
            self.waiting_since = None
        if self.first_token is None:
            self.first_token = waited
        else:
            self.decode_time += waited
        self.tokens += 1
        return token

    def close(self) -> None:
        """End the work. Only for the thread that reads the tokens."""
        if self._generator is not None:
            self._generator.close()

    def prefetch(self) -> bool:
        """Run up to the first token and keep it, or the error, for the iteration.

        Returns whether there is a token.
        """
        try:
            self._prefetched = next(self, None)
        except BaseException as error:  # noqa: BLE001  # the iteration raises it
            self._prefetched = error
        return isinstance(self._prefetched, int)

    @property
    def prefetch_error(self) -> BaseException | None:
        """What `prefetch` failed with, until the iteration raises it."""
        return self._prefetched if isinstance(self._prefetched, BaseException) else None

    def ready(self, *, uncached: int, load_time: float = 0.0) -> None:
        """The source is loaded or connected: the time to the first token starts here."""
        self.uncached, self.load_time = uncached, load_time
        self.waiting_since = time.monotonic()

    @property
    def time_left(self) -> float | None:
        """Seconds until `timeout`, at least 0; None without one."""
        if self.timeout is None:
            return None
        return max(0.0, self.started + self.timeout - time.monotonic())

    def take_score(self, token: int) -> TokenScore:
        """The score of `token`, the one that was just read. Raises SourceFailedError without one."""
        score = self.scores.popleft() if self.scores else None
        if score is None or score.token_id != token:
            raise SourceFailedError(
                f"{self.source} sent a token without its log-probability, which was asked for"
            )
        return score

    def progress(self) -> Progress:
        """Its progress now; from any thread."""
        waiting_since, now = self.waiting_since, time.monotonic()
        silent = 0.0
        if waiting_since is not None:
            silent = now - max(waiting_since, self.thawed_at or waiting_since)
        gap = (
            self.decode_time / (self.tokens - 1)
            if self.tokens > _MIN_MEASURED_TOKENS
            else self.predicted.gap
        )
        expected = gap if self.tokens else self.predicted.first_token
        remaining = None
        if expected is not None and gap is not None:
            remaining = abs(expected - silent) + gap * (self.max_tokens - self.tokens - 1)
        return Progress(silent=silent, expected=expected, remaining=remaining)

    def measurement(self) -> Measurement | None:
        """What the latency log can learn from it; None if that is nothing.

        Without a token it is a lower bound, where the wait was ended from here: the attempt lost a
        race, stalled, or was stopped. Read it before the iteration has ended.
        """
        first_token = self.first_token
        if first_token is None and self.waiting_since and (self.stop.is_set() or self.timed_out):
            first_token = time.monotonic() - self.waiting_since
        if first_token is None or not self.uncached or self.thawed_at is not None:
            return None
        return Measurement(
            position=self.position,
            uncached=self.uncached,
            first_token=first_token,
            tokens=self.tokens,
            decode_time=self.decode_time,
            # A cloud that reports more than was waited for would count as one that answers at once.
            queued=self.queued if 0 <= self.queued <= first_token else 0.0,
            at=time.time(),
        )

    def thawed(self) -> None:
        """The process was frozen until now: the source was not silent, and nothing was measured."""
        self.thawed_at = time.monotonic()

    def hand_off(self, why: Veto) -> None:
        """Stop it, for the other source to continue; from any thread."""
        self.handoff = why
        self.stop.set()
