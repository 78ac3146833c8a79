"""What the service knows of a request besides its tokens: its caller, its deadline, its outcome."""

from dataclasses import dataclass
from typing import Protocol

import grpc


class RefusedError(Exception):
    """A request that is not answered; `text` may be shown to the caller."""

    def __init__(
        self, code: grpc.StatusCode, text: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.retry_after = retry_after  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request. `name` tells callers apart: their token's name, or their address."""

    name: str
    deadline: float | None = None  # on time.monotonic()'s clock
    trace: str | None = None  # W3C traceparent header

    def is_late(self, now: float) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and self.deadline < now


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOutcome:
    """How one request ended. Times are in seconds; it holds no text and no tokens."""

    caller: Caller
    code: grpc.StatusCode
    method: str = "Generate"  # or Score
    arrived_at: float  # seconds since the epoch
    total_time: float  # from arrival to the end
    prompt_tokens: int = (
        0  # tokens to prefill or score, including those generated before this request
    )
    cached_tokens: int = 0  # of them, found in the prefix cache
    generated_tokens: int = 0
    queue_time: float | None = None  # from arrival until work began, if it did
    time_to_first_token: float | None = None  # from arrival, if there was one
    finish_reason: str | None = None  # stop, length
    model: str | None = None  # the name of the one that answered


@dataclass(frozen=True, slots=True)
class DownloadOutcome:
    """How one download from the channel ended. It does not say whose it was."""

    file: str  # its name in the channel; empty for an invalid one
    code: grpc.StatusCode
    sent: int  # bytes
    total_time: float  # seconds


class Observer(Protocol):
    """Counts or records requests (metrics, traces, logs). Called on the event loop."""

    def token_sent(self, gap: float | None) -> None:
        """A token was sent, `gap` seconds after the previous one; None for the first."""

    def request_ended(self, outcome: RequestOutcome) -> None:
        """A request ended, in whatever way."""
