"""What the router returns: chunks while it generates, a Generation at the end."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edgewise.policy.types import Decision, Source, Veto, VetoCode
from edgewise_edge import FinishReason, TokenScore, Usage


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text, its tokens, and the source that completed it.

    `logprobs` has the score of each of `token_ids` where the request asks for them. Tokens cut off by
    a stop string are in no chunk, only in the Generation.
    """

    text: str
    token_ids: tuple[int, ...]
    source: Source
    logprobs: tuple[TokenScore, ...] = ()


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


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Generation:
    """A finished (or cancelled) answer, and how it came about."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    model: str  # name@revision
    source: Source  # of the last token
    segments: tuple[Segment, ...]
    decision: Decision  # the last one, where there were several
    usage: Usage
    timings: Timings
    seed: int
    logprobs: tuple[TokenScore, ...] | None = None  # of each of token_ids, if asked for
    end_logprob: TokenScore | None = None  # of the end token, where one ended the answer

    def __str__(self) -> str:
        """The text."""
        return self.text

    def __repr__(self) -> str:
        """The start of the text and the summary, for notebooks and debuggers."""
        start = self.text if len(self.text) <= 200 else f"{self.text[:200]}…"
        return f"Generation({start!r}, {summary(self)})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are this class's field names."""
        usage = asdict(self.usage) | {"total_tokens": self.usage.total_tokens}
        return asdict(self) | {"usage": usage, "decision": decision_dict(self.decision)}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Score:
    """How likely a model finds a text: each token's log-probability after those before it."""

    tokens: tuple[TokenScore, ...]  # one for each of the prompt; the first has no log-probability
    model: str  # name@revision
    source: Source
    decision: Decision
    total: float  # seconds from the call

    @property
    def token_ids(self) -> tuple[int, ...]:
        """The prompt's."""
        return tuple(token.token_id for token in self.tokens)

    @property
    def prompt_tokens(self) -> int:
        """How many there are."""
        return len(self.tokens)

    @property
    def logprob(self) -> float:
        """The log-probability of all tokens after the first, together: a natural logarithm."""
        return math.fsum(token.logprob for token in self.tokens if token.logprob is not None)

    def __repr__(self) -> str:
        """Nothing of the prompt."""
        return f"Score({score_summary(self)})"

    def as_dict(self) -> dict[str, Any]:
        """For JSON; the keys are this class's attributes."""
        return {
            **asdict(self),
            "decision": decision_dict(self.decision),
            "prompt_tokens": self.prompt_tokens,
            "logprob": self.logprob,
        }


def decision_dict(decision: Decision) -> dict[str, Any]:
    """A Decision for JSON; a source without a veto is null."""
    predicted = {source: asdict(time) for source, time in decision.predicted.items()}
    return {
        "source": decision.source,
        "reason": decision.reason,
        "vetoes": _vetoes_dict(decision.vetoes),
        "predicted": predicted,
        "queue_length": decision.queue_length,
    }


def refusal_dict(vetoes: Mapping[Source, Veto]) -> dict[str, Any]:
    """The same keys where no source may answer."""
    return {"source": None, "reason": None, "vetoes": _vetoes_dict(vetoes)}


def _vetoes_dict(vetoes: Mapping[Source, Veto]) -> dict[str, Any]:
    return {source: asdict(vetoes[source]) if source in vetoes else None for source in Source}


# Vetoes that tell of trouble, rather than of a setting.
_TROUBLE = {VetoCode.FAILED, VetoCode.STALLED, VetoCode.BUSY, VetoCode.CIRCUIT_OPEN}


def score_summary(score: Score) -> str:
    """One line for people: which source answered, why, how likely the text is, and how fast."""
    count = score.prompt_tokens
    return " · ".join(
        [
            str(score.source),
            str(score.decision.reason),
            f"{count} token{'' if count == 1 else 's'}",
            f"log-probability {score.logprob:.3f}",
            f"{score.total * 1000:.0f} ms",
        ]
    )


def summary(generation: Generation) -> str:
    """One line for people: which source answered, why, and how fast."""
    timings, count = generation.timings, generation.usage.completion_tokens
    parts = [
        " → ".join(f"{part.source} ({part.tokens})" for part in generation.segments)
        if len(generation.segments) > 1
        else str(generation.source),
        str(generation.decision.reason),
        f"{count} token{'' if count == 1 else 's'}",
    ]
    if timings.time_to_first_token is not None:
        parts.append(f"first after {timings.time_to_first_token * 1000:.0f} ms")
    if timings.tokens_per_second is not None:
        parts.append(f"{timings.tokens_per_second:.0f} tokens/s")
    if (veto := generation.decision.vetoes.get(generation.source.other)) and veto.code in _TROUBLE:
        parts.append(f"{generation.source.other}: {veto.code}")
    return " · ".join([*parts, str(generation.finish_reason)])
