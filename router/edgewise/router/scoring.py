"""The way of a score: a source is chosen, and the other one is asked where it fails."""

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from edgewise.errors import Failure, NoSourceError, SourceFailedError, failure_veto
from edgewise.generation.attempt import Attempt, StopSignal
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Outcome
from edgewise.generation.request import AllowCloudRequest, AnyRequest, Request
from edgewise.generation.result import Score
from edgewise.generation.source import CloudTokenSource, DeviceTokenSource
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import (
    Decision,
    Mode,
    NoSource,
    PolicyLimits,
    RoutingRequest,
    Source,
    Veto,
)
from edgewise_edge import TokenRequest, TokenScore

Sent = TypeVar("Sent", bound=TokenRequest)

# A source's score of the prompt; the arguments are AttemptOptions' `may_wait` and `traceparent`.
AskForScore = Callable[[bool, str | None], tuple[TokenScore, ...]]


@dataclass(slots=True, eq=False)
class Scoring:
    """The score of one prompt. `sources` are those that the request may use.

    No monitor watches it: it is one pass, which another source would have to begin again.
    """

    request: Request
    model: str  # name@revision
    started: float  # time.monotonic() of the call
    sources: Mapping[Source, AskForScore]
    advisor: Advisor
    emitter: EventEmitter
    stop: StopSignal
    _abandoned: dict[Source, Veto] = field(default_factory=dict)
    _failures: dict[Source, Exception] = field(default_factory=dict)

    def run(self) -> Score:
        """Ask the chosen source, and if it fails the other one. Raises NoSourceError."""
        decision, outcome = self._decide(), Outcome.FAILED
        try:
            while True:
                self.emitter.decided(decision, len(self.request.prompt_ids), 0)
                if tokens := self._ask(decision):
                    outcome = Outcome.FINISHED
                    return Score(
                        tokens=tokens,
                        model=self.model,
                        source=decision.source,
                        decision=decision,
                        total=self._elapsed,
                    )
                decision = self._decide_again(decision.source)
        finally:
            if self.stop.is_set() and outcome is Outcome.FAILED:
                outcome = Outcome.CANCELLED
            self.emitter.scored(
                outcome, decision.source, len(self.request.prompt_ids), self._elapsed
            )

    def _ask(self, decision: Decision) -> tuple[TokenScore, ...]:
        """The scores; none where the source fails and another one may be asked."""
        source = decision.source
        attempt = Attempt(source, len(self.request.prompt_ids), 0, _no_tokens)  # for its event
        may_wait = len(self.sources) == 1 or source.other in decision.vetoes
        try:
            tokens = self.sources[source](may_wait, self.emitter.traceparent())
            self._require_all(source, tokens)
        except Exception as error:
            outcome = Outcome.CANCELLED if self.stop.is_set() else Outcome.FAILED
            self.emitter.attempt_ended(attempt, outcome, error)
            if outcome is Outcome.CANCELLED or not isinstance(error, Failure):
                raise
            self._failures[source], self._abandoned[source] = error, failure_veto(error)
            return ()
        self.emitter.attempt_ended(attempt, Outcome.FINISHED)
        return tokens

    def _require_all(self, source: Source, tokens: tuple[TokenScore, ...]) -> None:
        if tuple(token.token_id for token in tokens) != self.request.prompt_ids:
            raise SourceFailedError(f"{source} did not send the scores of the prompt's tokens")

    def _decide(self) -> Decision:
        request = self.request
        outcome = self.advisor.decide(self._routing(), request.prompt_ids)
        if isinstance(outcome, NoSource):
            self.emitter.refused(outcome.vetoes)
            raise NoSourceError(outcome, self._failures)
        return outcome

    def _decide_again(self, failed: Source) -> Decision:
        try:
            decision = self._decide()
        except NoSourceError as error:
            raise error from self._failures[failed]
        self.emitter.handed_over(
            decision.source, len(self.request.prompt_ids), 0, self._abandoned[failed]
        )
        return decision

    def _routing(self) -> RoutingRequest:
        # Unlike a generation's, the prompt may fill the context window.
        routing = self.request.routing(0, self._elapsed, self._abandoned)
        return replace(routing, max_tokens=0, max_tokens_given=True)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self.started


def _no_tokens(_: Attempt) -> Generator[int, None, None]:
    yield from ()


def scorers(
    request: AnyRequest,
    device: DeviceTokenSource,
    cloud: CloudTokenSource | None,
    top: int,
    stop: StopSignal,
    limits: PolicyLimits,
) -> dict[Source, AskForScore]:
    """The sources that may score a request's prompt: for a private one, never the cloud."""
    found = dict[Source, AskForScore]()
    if request.mode is not Mode.ONLY_IN_CLOUD:
        on_device: TokenRequest = _prompt_only(request.after(()))
        found[Source.ON_DEVICE] = lambda may_wait, _: device.score(
            on_device, top, stop, limits=limits, may_wait=may_wait
        )
    if cloud and isinstance(request, AllowCloudRequest) and request.mode is not Mode.ONLY_ON_DEVICE:
        in_cloud, chosen = _prompt_only(request.after(())), cloud
        found[Source.IN_CLOUD] = lambda _, traceparent: chosen.score(
            in_cloud, top, stop, traceparent=traceparent
        )
    return found


def _prompt_only(request: Sent) -> Sent:
    return replace(request, max_tokens=0)
