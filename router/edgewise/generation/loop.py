"""The generation loop: decide, run, and decide again when a source fails or hands off."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from edgewise.errors import Failure, NoSourceError, SourceFailedError, failure_veto
from edgewise.generation.attempt import Attempt, StopSignal
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Outcome
from edgewise.generation.handoff_monitor import BUDGET_POLL_INTERVAL, POLL_INTERVAL, HandoffMonitor
from edgewise.generation.hedge import hedge
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.result import Chunk, Generation
from edgewise.generation.source import OpenAttempt
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import Decision, NoSource, Reason, RoutingRequest, Source, Veto, VetoCode
from edgewise_edge import FinishReason


class GenerationLoop:
    """One generation, from the first decision to its end.

    `sources` are those that the request may use; `decision` has chosen one of them.
    """

    def __init__(
        self,
        decision: Decision,
        response: PartialResponse,
        *,
        advisor: Advisor,
        sources: Mapping[Source, OpenAttempt],
        emitter: EventEmitter,
    ) -> None:
        self.decision = decision
        self.cancelled = StopSignal()
        self.request, self._response = response.request, response
        self._advisor, self._sources, self._emitter = advisor, sources, emitter
        self._abandoned: dict[Source, Veto] = {}
        self._failures: dict[Source, Exception] = {}  # the last of each source
        self._completed = False
        self._emit_decision()

    def run(self) -> Generator[Chunk, None, None]:
        """Generate to the end, continuing on the other source when one fails or hands off."""
        try:
            while not self._ended():
                yield from self._attempt()
        finally:
            self.end(FinishReason.CANCELLED)

    def end(self, reason: FinishReason) -> None:
        """End the generation here, unless it has ended already."""
        self._response.finish(reason)
        if not self._completed:
            self._completed = True
            self._emitter.completed(self.generation)

    def generation(self) -> Generation:
        """The result so far."""
        return self._response.generation(self.decision)

    def _ended(self) -> bool:
        return self._response.finished or self.cancelled.is_set()

    def _attempt(self) -> Generator[Chunk, None, None]:
        """Run the chosen source; if it does not finish, choose again."""
        attempt = self._open(self.decision)
        outcome = Outcome.CANCELLED
        error: Exception | None = None
        try:
            if self.request.hedge_after and not self._response.token_ids and self._has_other:
                attempt = self._hedged(attempt, self.request.hedge_after)
            yield from self._read(attempt)
            if self._response.finished:
                outcome = Outcome.FINISHED
            elif attempt.handoff and not self.cancelled.is_set():
                outcome = Outcome.HANDED_OVER
        except Failure as failure:
            if self._ended():
                pass
            elif attempt.handoff:  # it failed because it was stopped
                outcome = Outcome.HANDED_OVER
            else:
                outcome, error = Outcome.FAILED, failure
        except Exception as bug:
            outcome, error = Outcome.FAILED, bug
            self._response.finish(FinishReason.ERROR)
            raise
        finally:
            self._emitter.attempt_ended(attempt, outcome, error)
        if error:
            self._failures[attempt.source] = error
            self._abandon(attempt.source, failure_veto(error))
        elif attempt.handoff and not self._ended():
            self._abandon(attempt.source, attempt.handoff)

    def _read(self, attempt: Attempt) -> Generator[Chunk, None, None]:
        """Add an attempt's tokens to the response."""
        response = self._response
        with attempt, self._monitored(attempt):
            for token in attempt:
                if attempt.tokens == 1:  # not before: only then it knows how many tokens have room
                    response.begin_attempt(attempt)
                if chunk := response.add_token(token, attempt.source):
                    yield chunk
                if response.finished:
                    break
        if not (self._ended() or attempt.handoff):
            raise SourceFailedError(f"{attempt.source} stopped before the answer was finished")

    def _open(self, decision: Decision) -> Attempt:
        """An attempt of the chosen source; it does not run yet."""
        attempt = self._sources[decision.source](
            self._response.token_ids,
            predicted=decision.predicted[decision.source],
            timeout=self._timeout(decision),
            traceparent=self._emitter.traceparent(),
            limits=self._advisor.limits,
            may_wait=not self._has_other or decision.source.other in decision.vetoes,
        )
        self.cancelled.add_callback(attempt.stop.set)
        return attempt

    def _timeout(self, decision: Decision) -> float | None:
        """Seconds the source may take: the rest of the budget, if the other can continue then."""
        budget, other = self.request.latency_budget, decision.vetoes.get(decision.source.other)
        missed = decision.reason in (Reason.BUDGET_MISSED, Reason.LAST_RESORT)
        if budget is None or missed or not self._has_other or (other and not other.soft):
            return None
        rest = budget - self._response.elapsed
        return rest if rest > 0 else None  # a budget that is used up is no limit

    def _hedged(self, first: Attempt, after: float) -> Attempt:
        """The first to have a token: `first`, or the other source, started after `after` s."""

        def open_other() -> Attempt | None:
            decision = self._decide_hedge(first.source, after)
            return self._open(decision) if decision else None

        def ended(attempt: Attempt, outcome: Outcome, error: Exception | None) -> None:
            if error and self.cancelled.is_set():  # it failed because it was stopped
                outcome, error = Outcome.LOST, None
            if error:
                self._abandoned[attempt.source] = failure_veto(error)
                self._failures[attempt.source] = error
            self._emitter.attempt_ended(attempt, outcome, error)

        with self._monitored(first):
            winner = hedge(first, after, open_other, ended)
        if winner is not first and not winner.prefetch_error and winner.tokens:
            self.decision = replace(self.decision, source=winner.source, reason=Reason.HEDGED)
            self._emit_decision()
        return winner

    def _decide_hedge(self, slow: Source, after: float) -> Decision | None:
        """A decision for the other source, if it may be started too."""
        stalled = Veto(VetoCode.STALLED, f"it had no token after {after:.1f} s", soft=True)
        outcome = self._decide({slow: stalled})
        if not isinstance(outcome, Decision) or outcome.source is slow:
            return None
        if outcome.source in outcome.vetoes:
            return None  # not worth a last resort
        self._emitter.hedged(outcome.source, after)
        return outcome

    def _abandon(self, source: Source, why: Veto) -> None:
        """Choose the source that continues. Raises NoSourceError if none may."""
        self._abandoned[source] = why
        outcome, generated = self._decide(), len(self._response.token_ids)
        if isinstance(outcome, NoSource):
            self._emitter.refused(outcome.vetoes, generated)
            self.end(FinishReason.ERROR)
            raise NoSourceError(outcome, self._failures) from self._failures.get(source)
        self.decision = outcome
        self._emitter.handed_over(outcome.source, self._response.position, generated, why)
        self._emit_decision()

    def _monitored(self, attempt: Attempt) -> AbstractContextManager[object]:
        """Watch an attempt, if there is another source to hand off to."""
        if not self._has_other:
            return nullcontext()

        def check() -> Veto | None:
            token_ids = self._response.token_ids
            return self._advisor.reconsider(
                self.decision,
                attempt.progress(),
                self._routing_request(len(token_ids)),
                (*self.request.prompt_ids, *token_ids),
            )

        interval = BUDGET_POLL_INTERVAL if self.request.budgeted else POLL_INTERVAL
        return HandoffMonitor(attempt, check, interval)

    def _decide(self, also_abandoned: Mapping[Source, Veto] | None = None) -> Decision | NoSource:
        token_ids = self._response.token_ids
        return self._advisor.decide(
            self._routing_request(len(token_ids), also_abandoned),
            (*self.request.prompt_ids, *token_ids),
        )

    def _routing_request(
        self, generated: int, also_abandoned: Mapping[Source, Veto] | None = None
    ) -> RoutingRequest:
        abandoned = {**self._abandoned, **(also_abandoned or {})}
        return self.request.routing(generated, self._response.elapsed, abandoned)

    @property
    def _has_other(self) -> bool:
        return len(self._sources) > 1

    def _emit_decision(self) -> None:
        self._emitter.decided(self.decision, self._response.position, self._response.tokens_left)
