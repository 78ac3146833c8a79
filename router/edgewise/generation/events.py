"""What a router reports while it generates. No event holds a prompt, a token or an answer.

Event
├── GenerationEvent   here
└── ModelEvent        delivery/events.py
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from edgewise.generation.result import Segment, Timings
from edgewise.policy.types import Decision, Privacy, Source, VetoCode
from edgewise_edge import FinishReason, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened to a generation or to a model on this device."""

    model: str  # name@revision of a generation, name of a model's delivery
    time: float  # seconds since the epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationEvent(Event):
    """Something that happened to one generation."""

    generation: str  # its random ID
    privacy: Privacy


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided(GenerationEvent):
    """A source was chosen: for the whole answer, or for the rest after a fallback or handoff."""

    decision: Decision
    position: int  # tokens so far, prompt and answer
    max_tokens: int  # still to generate


class Outcome(StrEnum):
    """How an attempt ended."""

    FINISHED = "finished"
    FAILED = "failed"
    HANDED_OVER = "handed_over"
    CANCELLED = "cancelled"
    LOST = "lost"  # of two hedged attempts, the other one had the first token


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(GenerationEvent):
    """An attempt of one source has ended. Times in seconds."""

    source: Source
    position: int  # tokens before it, prompt and answer
    tokens: int  # that it generated
    total: float
    first_token: float | None
    outcome: Outcome
    error: str | None = None  # the exception's class


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver(GenerationEvent):
    """The other source continues: a fallback before the first token, a handoff after it."""

    source: Source  # that continues
    position: int  # tokens so far, prompt and answer
    tokens: int  # generated so far
    why: VetoCode  # the veto on the source that stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedged(GenerationEvent):
    """The other source was started too, since the first had no token yet."""

    source: Source  # that was started too
    after: float  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(GenerationEvent):
    """The generation has ended, for whatever reason."""

    finish_reason: FinishReason
    usage: Usage
    segments: tuple[Segment, ...]
    timings: Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored(GenerationEvent):
    """A score has ended: what Completed is for a generation.

    Its other events are those of a generation, of no new tokens.
    """

    outcome: Outcome  # FINISHED, FAILED or CANCELLED
    tokens: int  # the prompt's
    source: Source  # that was used last
    total: float  # seconds from the call


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(GenerationEvent):
    """No source may answer, or none may continue."""

    vetoes: Mapping[Source, VetoCode]
    tokens: int  # generated so far


# Called in a thread that generates or updates, so it should be quick. What it raises is logged.
Observer = Callable[[Event], object]


@runtime_checkable
class Traces(Protocol):
    """An observer whose traces the cloud's spans join (tracing.Tracing)."""

    def traceparent(self, generation: str) -> str | None:
        """The W3C header for calls on behalf of that generation."""
