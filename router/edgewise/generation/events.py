"""What a router tells of its work, as it happens. No event holds a prompt, a token or a text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from edgewise.generation.result import Segment, Timings
from edgewise.policy.types import Decision, Privacy, Source, VetoCode
from edgewise_edge import FinishReason, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to one generation."""

    generation: str  # names the generation; random
    model: str  # name@revision
    privacy: Privacy
    time: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(Event):
    """A side was chosen: for the whole text, or for the rest of it after a fallback or handoff."""

    decision: Decision
    position: int  # tokens there, prompt and answer
    max_tokens: int  # still wanted


class Outcome(StrEnum):
    """How a side's attempt ended."""

    FINISHED = "finished"
    FAILED = "failed"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"
    LOST = "lost"  # the other side was first


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(Event):
    """A side wrote, or tried to. Times in seconds."""

    source: Source
    position: int  # tokens there when it began
    tokens: int  # that it wrote
    total: float
    first_token: float | None
    outcome: Outcome
    error: str | None = None  # the name of what went wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver(Event):
    """One side goes on where the other stopped: a fallback without tokens, a handoff with some."""

    source: Source  # that goes on
    position: int
    tokens: int  # generated until here
    why: VetoCode  # the veto on the side that stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedged(Event):
    """The other side was asked too, since no token had come."""

    source: Source  # that was asked too
    after: float  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Event):
    """The text has ended, however it came."""

    finish_reason: FinishReason
    usage: Usage
    segments: tuple[Segment, ...]
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Event):
    """No side may answer, or none may go on."""

    vetoes: Mapping[Source, VetoCode]
    tokens: int  # generated until here


# Called in the thread that generates, or beside it; should be quick. What it raises is logged.
Observer = Callable[[Event], object]


@runtime_checkable
class Traces(Protocol):
    """An observer whose traces the cloud's spans are to join (tracing.Tracing)."""

    def traceparent(self, generation: str) -> str | None:
        """The W3C header for calls on behalf of that generation."""
