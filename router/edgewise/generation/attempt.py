"""One side's run at a text: how it is doing, and how to end it from elsewhere."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field

from edgewise.latency.log import Measurement
from edgewise.policy.types import UNKNOWN, PredictedTime, Progress, Source, Veto

_ENOUGH = 8  # tokens by which a pace is known


class Stop(threading.Event):
    """An event that also calls back, so that what waits for something else can be woken."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    def set(self) -> None:
        """Set it, and call back, once."""
        with self._lock:
            super().set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def then(self, callback: Callable[[], object]) -> None:
        """Have `callback` called when it is set; at once if it is."""
        with self._lock:
            if not self.is_set():
                self._callbacks.append(callback)
                return
        callback()


@dataclass(slots=True, eq=False)
class Attempt:
    """A run that a side makes at a text. Whoever reads its tokens times them here.

    Times are time.monotonic(), or seconds. The reader's own time is not in them.
    """

    source: Source
    position: int  # tokens there when it began, prompt and answer
    max_tokens: int
    time_left: float | None = None  # seconds after which nobody has use for more tokens
    predicted: PredictedTime = UNKNOWN
    traceparent: str | None = None  # the trace that it belongs to (W3C), should there be one
    began: float = field(default_factory=time.monotonic)
    stop: Stop = field(default_factory=Stop)
    entry: object = None  # the circuit breaker's pass
    handover: Veto | None = None  # why it was stopped, if it was for the other side to go on
    uncached: int = 0  # of the tokens there, those that it had to read
    load_time: float = 0.0  # seconds until it could begin, e.g. to load a model
    queued: float = 0.0  # seconds of the first wait that it spent in a queue, as far as it says
    alone: bool = True  # whether no other text was written beside it
    tokens: int = 0
    first_token: float | None = None  # seconds from the beginning, without `load_time`
    decode_time: float = 0.0  # seconds from the first token to the last
    waiting_since: float | None = None  # while the next token is waited for

    @property
    def timeout(self) -> float | None:
        """Seconds of `time_left` that are left now; never below 0."""
        if self.time_left is None:
            return None
        return max(0.0, self.began + self.time_left - time.monotonic())

    def timed(self, tokens: Generator[int, None, None]) -> Iterator[int]:
        """The same tokens, timed."""
        clock = time.monotonic
        while True:
            self.waiting_since = asked = clock()
            try:
                token = next(tokens)
            except StopIteration:
                return
            finally:
                self.waiting_since = None
            waited = clock() - asked
            if self.first_token is None:
                self.first_token = waited
            else:
                self.decode_time += waited
            self.tokens += 1
            yield token

    def progress(self) -> Progress:
        """How it is doing now; from any thread."""
        asked, now = self.waiting_since, time.monotonic()
        silent = now - asked if asked is not None else 0.0
        gap = self.decode_time / (self.tokens - 1) if self.tokens > _ENOUGH else self.predicted.gap
        expected = gap if self.tokens else self.predicted.first_token
        remaining = None
        if expected is not None and gap is not None:
            remaining = abs(expected - silent) + gap * (self.max_tokens - self.tokens - 1)
        return Progress(silent=silent, expected=expected, remaining=remaining)

    def measurement(self) -> Measurement:
        """What can be learned from it, once a token has come."""
        return Measurement(
            position=self.position,
            uncached=self.uncached,
            first_token=self.first_token or 0.0,
            tokens=self.tokens,
            decode_time=self.decode_time,
            queued=min(max(0.0, self.queued), self.first_token or 0.0),
            at=time.time(),
        )

    def hand_over(self, why: Veto) -> None:
        """Stop it, for the other side to go on; from any thread."""
        self.handover = why
        self.stop.set()
