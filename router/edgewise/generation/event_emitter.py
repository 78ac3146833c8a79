"""Makes the events of one generation and sends them to the observers."""

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgewise.generation.attempt import Attempt
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    GenerationEvent,
    HandedOver,
    Hedged,
    Observer,
    Outcome,
    Refused,
    Scored,
    Traces,
)
from edgewise.generation.result import Generation
from edgewise.policy.types import Decision, Privacy, Source, Veto

log = logging.getLogger("edgewise")


class EventEmitter:
    """Sends one generation's events to every observer, and to the logger `edgewise` at DEBUG.

    An observer's error is logged and otherwise ignored. Without an observer or a DEBUG log no
    events are made. `privacy` is the request's, which may become private.
    """

    def __init__(self, observers: Sequence[Observer], model: str, privacy: Privacy) -> None:
        self._observers, self._model, self.privacy = observers, model, privacy
        self._generation = os.urandom(8).hex()

    def traceparent(self) -> str | None:
        """The W3C trace header of the first observer that traces this generation."""
        for observer in self._observers:
            if isinstance(observer, Traces):
                with _logging_errors():
                    if found := observer.traceparent(self._generation):
                        return found
        return None

    def decided(
        self,
        decision: Decision,
        position: int,
        max_tokens: int,
        privacy: Privacy | None = None,
    ) -> None:
        """A source was chosen for `max_tokens` more tokens, while the request had this `privacy`."""
        self._emit(
            Decided,
            decision=decision,
            position=position,
            max_tokens=max_tokens,
            privacy=privacy or self.privacy,
        )

    def attempt_ended(
        self, attempt: Attempt, outcome: Outcome, error: BaseException | None = None
    ) -> None:
        """An attempt has ended."""
        self._emit(
            AttemptEnded,
            source=attempt.source,
            position=attempt.position,
            tokens=attempt.tokens,
            total=time.monotonic() - attempt.started,
            first_token=attempt.first_token,
            outcome=outcome,
            error=type(error).__name__ if error else None,
        )

    def handed_over(
        self,
        source: Source,
        position: int,
        tokens: int,
        why: Veto,
        privacy: Privacy | None = None,
    ) -> None:
        """`source` continues after `tokens` generated ones; `privacy` as of `decided`."""
        self._emit(
            HandedOver,
            source=source,
            position=position,
            tokens=tokens,
            why=why.code,
            privacy=privacy or self.privacy,
        )

    def hedged(self, source: Source, after: float) -> None:
        """`source` was started too, after `after` seconds without a token."""
        self._emit(Hedged, source=source, after=after)

    def refused(self, vetoes: Mapping[Source, Veto], tokens: int = 0) -> None:
        """No source may continue."""
        codes = {source: veto.code for source, veto in vetoes.items()}
        self._emit(Refused, vetoes=codes, tokens=tokens)

    def completed(self, result: Callable[[], Generation]) -> None:
        """The generation has ended."""
        if self._has_listener:
            ended = result()
            self._emit(
                Completed,
                finish_reason=ended.finish_reason,
                usage=ended.usage,
                segments=ended.segments,
                timings=ended.timings,
            )

    def scored(self, outcome: Outcome, source: Source, tokens: int, total: float) -> None:
        """A score has ended."""
        self._emit(Scored, outcome=outcome, source=source, tokens=tokens, total=total)

    @property
    def _has_listener(self) -> bool:
        return bool(self._observers) or log.isEnabledFor(logging.DEBUG)

    def _emit(self, kind: type[GenerationEvent], **fields: Any) -> None:
        if not self._has_listener:
            return
        fields = {"privacy": self.privacy} | fields
        event = kind(generation=self._generation, model=self._model, time=time.time(), **fields)
        log.debug("%s", event)
        emit(self._observers, event)


def emit(observers: Sequence[Observer], event: Event) -> None:
    """Send one event to every observer."""
    for observer in observers:
        with _logging_errors():
            observer(event)


@contextmanager
def _logging_errors() -> Iterator[None]:
    """Log an observer's error instead of failing the generation."""
    try:
        yield
    except Exception as error:  # noqa: BLE001
        # Only the error's type: its message could quote anything.
        log.warning("an observer failed: %s", type(error).__name__)
