"""The events of one generation, as observers are told of them."""

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

from edgewise.generation.attempt import Attempt
from edgewise.generation.events import (
    Announcer,
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Outcome,
    Refused,
)
from edgewise.generation.result import Generation
from edgewise.policy.types import Decision, Privacy, Source, Veto


class Telling:
    """Makes an event of what happens to one generation, if anyone listens."""

    def __init__(self, announcer: Announcer, model: str, privacy: Privacy) -> None:
        self._announcer, self._model, self._privacy = announcer, model, privacy
        self._name = secrets.token_hex(8)

    def traceparent(self) -> str | None:
        """The trace that the generation belongs to (W3C), if an observer keeps one."""
        return self._announcer.traceparent(self._name)

    def decided(self, decision: Decision, position: int, max_tokens: int) -> None:
        """A side was chosen for `max_tokens` more tokens."""
        self._tell(Decided, decision=decision, position=position, max_tokens=max_tokens)

    def attempt_ended(self, attempt: Attempt, outcome: Outcome, error: Exception | None) -> None:
        """A side has stopped."""
        self._tell(
            AttemptEnded,
            source=attempt.source,
            position=attempt.position,
            tokens=attempt.tokens,
            total=time.monotonic() - attempt.began,
            first_token=attempt.first_token,
            outcome=outcome,
            error=type(error).__name__ if error else None,
        )

    def handed_over(self, source: Source, position: int, tokens: int, why: Veto) -> None:
        """`source` goes on after `tokens` new ones."""
        self._tell(HandedOver, source=source, position=position, tokens=tokens, why=why.code)

    def hedged(self, source: Source, after: float) -> None:
        """`source` was asked too."""
        self._tell(Hedged, source=source, after=after)

    def refused(self, vetoes: Mapping[Source, Veto], tokens: int = 0) -> None:
        """No side may go on."""
        codes = {side: veto.code for side, veto in vetoes.items()}
        self._tell(Refused, vetoes=codes, tokens=tokens)

    def completed(self, result: Callable[[], Generation]) -> None:
        """The text has ended."""
        if self._announcer.heard:
            ended = result()
            self._tell(
                Completed,
                finish_reason=ended.finish_reason,
                usage=ended.usage,
                segments=ended.segments,
                timings=ended.timings,
            )

    def _tell(self, kind: type[Event], **what: Any) -> None:
        if self._announcer.heard:
            self._announcer.tell(
                kind(
                    generation=self._name,
                    model=self._model,
                    privacy=self._privacy,
                    time=time.time(),
                    **what,
                )
            )
