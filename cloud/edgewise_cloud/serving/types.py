"""What is known of a request besides its words: who asks, until when, and what became of it."""

from dataclasses import dataclass
from typing import Protocol

import grpc


class RefusedError(Exception):
    """A request that is not answered; its text may be shown to whoever asked."""

    def __init__(
        self, code: grpc.StatusCode, text: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retry_after = retry_after  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. `name` tells callers apart: their token's name, or their address."""

    name: str
    deadline: float | None = None  # on time.monotonic()'s clock
    trace: str | None = None  # W3C traceparent header

    def late(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline < now


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One request, after its end. Times are in seconds; no word or token of it is kept."""

    caller: Caller
    code: grpc.StatusCode
    arrived: float  # seconds since the epoch
    total: float  # from arrival to the end
    prompt_tokens: int = 0  # tokens to read, those generated before this request included
    reused_tokens: int = 0  # of them, found in the prefix cache
    generated_tokens: int = 0
    queued: float | None = None  # from arrival until work began, if it did
    time_to_first_token: float | None = None  # from arrival, if there was one
    finish_reason: str | None = None  # stop, length


class Observer(Protocol):
    """Whoever counts or records requests (metrics, traces, logs). Called on the event loop."""

    def token(self, gap: float | None) -> None:
        """A token was sent, `gap` seconds after the one before it; None: it was the first."""

    def ended(self, outcome: Outcome) -> None:
        """A request ended, however it did."""


class Observers:
    """Several observers as one."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def token(self, gap: float | None) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.token(gap)

    def ended(self, outcome: Outcome) -> None:
        """Tell all of them."""
        for observer in self._observers:
            observer.ended(outcome)
