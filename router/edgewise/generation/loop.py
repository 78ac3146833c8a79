"""The generation loop: decide, run, and decide again when a source fails or hands off."""

import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from edgewise.errors import Failure, NoSourceError, SourceFailedError, failure_veto
from edgewise.generation.attempt import Attempt, StopSignal
from edgewise.generation.event_emitter import EventEmitter
from edgewise.generation.events import Outcome
from edgewise.generation.handoff_monitor import BUDGET_POLL_INTERVAL, POLL_INTERVAL, HandoffMonitor
from edgewise.generation.hedge import hedge
from edgewise.generation.partial_response import PartialResponse
from edgewise.generation.request import Request
from edgewise.generation.result import Chunk, Generation
from edgewise.generation.source import OpenAttempt
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import (
    Decision,
    NoSource,
    Privacy,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise.policy.vetoes import PRIVATE
from edgewise_edge import FinishReason


class GenerationLoop:
    """One generation, from the first decision to its end.

    `sources_for` returns the sources that a request may use; `decision` has chosen one of them.
    """

    def __init__(
        self,
        decision: Decision,
        response: PartialResponse,
        *,
        advisor: Advisor,
        sources_for: Callable[[Request], Mapping[Source, OpenAttempt]],
        emitter: EventEmitter,
    ) -> None:
        self.decision = decision
        self.cancelled = StopSignal()
        self.request, self._response = response.request, response
        self._advisor, self._sources_for, self._emitter = advisor, sources_for, emitter
        self._sources = sources_for(self.request)
        # Held while the request is changed, and while an attempt is opened for it. Re-entrant: the
        # garbage collector may end a stream at any point, in any thread.
        self._lock = threading.RLock()
        self._monitor: HandoffMonitor | None = None
        self._abandoned: dict[Source, Veto] = {}
        self._failures: dict[Source, Exception] = {}  # the last of each source
        self._running: set[Attempt] = set()  # opened, and not reported yet
        self._completed = False

    def begin(self) -> None:
        """Report the decision. From here on, the generation has to be ended."""
        self._emit_decision(self.decision, self.request)

    def change(self, **changes: Any) -> None:
        """See TextStream.change; `changes` are Request.changed's."""
        with self._lock:
            request = self.request.changed(**changes)
            if self._completed:
                return
            self.request = request
            self._sources = self._sources_for(self.request)
            self._emitter.privacy = self.request.privacy
            if request.privacy is Privacy.PRIVATE and self.decision.source is Source.ON_DEVICE:
                vetoes = {**self.decision.vetoes, Source.IN_CLOUD: PRIVATE}
                self.decision = replace(self.decision, vetoes=vetoes)
            for attempt in tuple(self._running):
                if attempt.source not in self._sources:
                    attempt.hand_off(PRIVATE)
        if monitor := self._monitor:
            monitor.check_now(self._poll_interval)

    @property
    def abandoned(self) -> dict[Source, Veto]:
        """The sources that it has moved away from, and why; from any thread."""
        return dict(self._abandoned)

    def run(self) -> Generator[Chunk, None, None]:
        """Generate to the end, continuing on the other source when one fails or hands off."""
        try:
            while not self._ended():
                yield from self._attempt()
        except Exception:
            self.end(FinishReason.ERROR)
            raise
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
        chosen = self.decision
        attempt = self._open(chosen)
        if attempt is None:
            self._continue_elsewhere(chosen.source, PRIVATE)
            return
        why: Veto | None = None
        try:
            if self.request.hedge_after and not self._response.token_ids and self._has_other:
                attempt = self._hedged(attempt, self.request.hedge_after)
            yield from self._read(attempt)
            why = self._end_attempt(attempt)
        except Failure as failure:
            why = self._end_attempt(attempt, failure)
        except Exception as bug:
            self._report(attempt, Outcome.FAILED, bug)
            raise
        finally:
            for left in tuple(self._running):  # the stream was closed, or there was an interrupt
                if left is not attempt:  # it may run in its own thread
                    left.stop.set()
                self._report(left, Outcome.CANCELLED)
        if why:
            self._continue_elsewhere(attempt.source, why)

    def _end_attempt(self, attempt: Attempt, failure: Exception | None = None) -> Veto | None:
        """Report an attempt that has ended; the veto on its source if the answer is unfinished."""
        why, error = None, None
        if self._response.finished:
            outcome = Outcome.FINISHED
        elif self.cancelled.is_set():
            outcome = Outcome.CANCELLED
        elif attempt.handoff:  # a failure came of its being stopped
            outcome, why = Outcome.HANDED_OVER, attempt.handoff
        else:
            error = failure or SourceFailedError(
                f"{attempt.source} stopped before the answer was finished"
            )
            outcome, why = Outcome.FAILED, failure_veto(error)
            self._failures[attempt.source] = error
        self._report(attempt, outcome, error)
        if why:
            self._abandoned[attempt.source] = why
        return why

    def _report(self, attempt: Attempt, outcome: Outcome, error: Exception | None = None) -> None:
        """Report the end of an attempt, unless it has been reported."""
        if attempt in self._running:
            self._running.remove(attempt)
            self._emitter.attempt_ended(attempt, outcome, error)

    def _read(self, attempt: Attempt) -> Generator[Chunk, None, None]:
        """Add an attempt's tokens to the response."""
        response = self._response
        with attempt, self._monitored(attempt):
            for token in attempt:
                if attempt.tokens == 1:  # not before: only then it knows how many tokens have room
                    response.begin_attempt(attempt)
                score = None if self.request.logprobs is None else attempt.take_score(token)
                if chunk := response.add_token(token, attempt.source, score):
                    yield chunk
                if response.finished:
                    break

    def _open(self, decision: Decision) -> Attempt | None:
        """An attempt of the chosen source; it does not run yet.

        None for the cloud once the request has become private.
        """
        traceparent = self._emitter.traceparent()
        with self._lock:  # what is in `_running` when the request becomes private is stopped
            if decision.source not in self._sources:
                return None
            attempt = self._sources[decision.source](
                self._response.token_ids,
                predicted=decision.predicted[decision.source],
                timeout=self._timeout(decision),
                traceparent=traceparent,
                limits=self._advisor.limits,
                may_wait=not self._has_other or decision.source.other in decision.vetoes,
                what_if=self._advisor.what_if,
            )
            self._running.add(attempt)
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
            other = self._open(decision) if decision else None
            if other:
                self._emitter.hedged(other.source, after)
            return other

        with self._monitored(first):
            winner = hedge(first, after, open_other, self._end_attempt)
        for other in self._running - {winner}:
            self._report(other, Outcome.LOST if winner.tokens else Outcome.CANCELLED)
        if winner is not first and winner.tokens:
            with self._lock:
                request, source = self.request, winner.source
                decision = replace(self.decision, source=source, reason=Reason.HEDGED)
                self.decision = decision
            self._emit_decision(decision, request)
        return winner

    def _decide_hedge(self, slow: Source, after: float) -> Decision | None:
        """A decision for the other source, if it may be started too."""
        stalled = Veto(VetoCode.STALLED, f"it had no token after {after:.1f} s", soft=True)
        outcome = self._decide({slow: stalled})
        if not isinstance(outcome, Decision) or outcome.source is slow:
            return None
        if outcome.source in outcome.vetoes:
            return None  # not worth a last resort
        return outcome

    def _continue_elsewhere(self, source: Source, why: Veto) -> None:
        """Choose the source that continues after `source`. Raises NoSourceError if none may."""
        generated = len(self._response.token_ids)
        request, outcome = self._choose()
        if isinstance(outcome, NoSource):
            self._emitter.refused(outcome.vetoes, generated)
            raise NoSourceError(outcome, self._failures) from self._failures.get(source)
        self._emitter.handed_over(
            outcome.source, self._response.position, generated, why, request.privacy
        )
        self._emit_decision(outcome, request)

    def _choose(self) -> tuple[Request, Decision | NoSource]:
        """Decide, and again if the request is changed meanwhile; the request and the outcome."""
        while True:
            request = self.request
            outcome = self._decide()
            with self._lock:
                if self.request is request:
                    if isinstance(outcome, Decision):
                        if outcome.source not in self._sources:
                            raise KeyError(outcome.source)  # the policy is wrong
                        self.decision = outcome
                    return request, outcome

    @contextmanager
    def _monitored(self, attempt: Attempt) -> Iterator[None]:
        """Watch an attempt, if there is another source to hand off to."""
        if not self._has_other:
            yield
            return

        def check() -> Veto | None:
            request, token_ids = self.request, self._response.token_ids
            veto = self._advisor.reconsider(
                self.decision,
                attempt.progress(),
                self._routing_request(len(token_ids)),
                (*request.prompt_ids, *token_ids),
            )
            return veto if self.request is request else None  # changed: the next check follows

        try:
            with HandoffMonitor(attempt, check, self._poll_interval) as self._monitor:
                yield
        finally:
            self._monitor = None

    @property
    def _poll_interval(self) -> float:
        return BUDGET_POLL_INTERVAL if self.request.budgeted else POLL_INTERVAL

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

    def _emit_decision(self, decision: Decision, request: Request) -> None:
        position, tokens_left = self._response.position, self._response.tokens_left
        self._emitter.decided(decision, position, tokens_left, request.privacy)
