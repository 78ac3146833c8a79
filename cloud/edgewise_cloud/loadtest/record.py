"""The record of one request."""

from array import array
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended."""

    UNFINISHED = "unfinished"  # it runs, or ran when the test ended
    COMPLETED = "completed"
    CANCELLED = "cancelled"  # by this client, as planned
    FAILED = "failed"  # with a status code
    WRONG = "wrong"  # its response broke the contract


@dataclass(slots=True, eq=False, kw_only=True)
class RequestRecord:
    """One request, filled in while it runs. Times are time.perf_counter()'s."""

    number: int
    stream: int
    prompt_tokens: int
    max_tokens: int
    due: float  # when it should have been sent; in a closed loop, when it was
    sent: float
    arrivals: "array[float]" = field(default_factory=lambda: array("d"))  # one per token
    ended: float | None = None
    outcome: Outcome = Outcome.UNFINISHED
    code: str | None = None  # of a failed request, like RESOURCE_EXHAUSTED
    text: str | None = None  # the service's error message, or how the response broke the contract
    queued: float | None = None  # seconds, as reported by the service

    def as_dict(self, start: float) -> dict[str, object]:
        """For JSON, with times in seconds since `start`."""
        return {
            "number": self.number,
            "stream": self.stream,
            "outcome": self.outcome.value,
            "code": self.code,
            "text": self.text,
            "prompt_tokens": self.prompt_tokens,
            "max_tokens": self.max_tokens,
            "due": self.due - start,
            "sent": self.sent - start,
            "arrivals": [arrival - start for arrival in self.arrivals],
            "ended": None if self.ended is None else self.ended - start,
            "queued": self.queued,
        }
