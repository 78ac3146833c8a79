"""What became of one request."""

from array import array
from dataclasses import dataclass, field
from enum import StrEnum


class Outcome(StrEnum):
    """How a request ended."""

    UNFINISHED = "unfinished"  # it runs, or ran when the measuring ended
    COMPLETED = "completed"
    CANCELLED = "cancelled"  # by us, as planned
    FAILED = "failed"  # with a status code
    WRONG = "wrong"  # its answer broke the contract


@dataclass(slots=True, eq=False, kw_only=True)
class Record:
    """One request, filled in while it runs. Moments are on time.perf_counter()'s clock."""

    number: int
    stream: int
    prompt_tokens: int
    max_tokens: int
    due: float  # when it was to be sent; in a closed loop, when it was
    sent: float
    arrivals: "array[float]" = field(default_factory=lambda: array("d"))  # one for each token
    ended: float | None = None
    outcome: Outcome = Outcome.UNFINISHED
    code: str | None = None  # of a failed request, like RESOURCE_EXHAUSTED
    text: str | None = None  # the service's words, or what was wrong
    queued: float | None = None  # seconds, by the service's own clock

    def as_dict(self, start: float) -> dict[str, object]:
        """For JSON; moments in seconds since `start`, on the same clock."""
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
