"""What the router gives back: chunks while it writes, a Generation in the end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgewise.policy.types import Decision, Source, Veto
from edgewise_edge import FinishReason, Usage


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text, the tokens that completed it, and who made them.

    Tokens whose text fell to a stop string are in no chunk, only in the Generation.
    """

    text: str
    token_ids: tuple[int, ...]
    source: Source


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens from one source; `start` counts from the first new token."""

    source: Source
    start: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds from the call; the rate counts the tokens after the first."""

    time_to_first_token: float | None
    total: float
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """A finished (or cancelled) text, with how it came about."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    model: str  # name@revision
    source: Source  # of the last token
    segments: tuple[Segment, ...]
    decision: Decision  # the last, should a side have failed
    usage: Usage
    timings: Timings
    seed: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the words are those of this class."""
        usage = asdict(self.usage) | {"total_tokens": self.usage.total_tokens}
        return asdict(self) | {"usage": usage, "decision": decision_dict(self.decision)}


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A Decision for JSON: every side present, a side without a veto as null."""
    predicted = {side: asdict(time) for side, time in decision.predicted.items()}
    return {
        "source": decision.source,
        "reason": decision.reason,
        "vetoes": _vetoes_dict(decision.vetoes),
        "predicted": predicted,
        "queue_length": decision.queue_length,
    }


def refusal_dict(vetoes: Mapping[Source, Veto]) -> dict[str, Any]:
    """The same words where no side may answer."""
    return {"source": None, "reason": None, "vetoes": _vetoes_dict(vetoes)}


def _vetoes_dict(vetoes: Mapping[Source, Veto]) -> dict[str, Any]:
    return {side: asdict(vetoes[side]) if side in vetoes else None for side in Source}


def summary(generation: Generation) -> str:
    """One line for people: who answered, why, and how fast."""
    timings = generation.timings
    parts = [
        " → ".join(f"{part.source} ({part.tokens})" for part in generation.segments)
        if len(generation.segments) > 1
        else str(generation.source),
        str(generation.decision.reason),
        f"{generation.usage.completion_tokens} tokens",
    ]
    if timings.time_to_first_token is not None:
        parts.append(f"first after {timings.time_to_first_token * 1000:.0f} ms")
    if timings.tokens_per_second is not None:
        parts.append(f"{timings.tokens_per_second:.0f} tokens/s")
    return " · ".join([*parts, str(generation.finish_reason)])
