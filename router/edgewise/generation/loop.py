"""The loop: decide, run, and where a side fails or should hand over, decide again and go on."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Protocol

from edgewise.errors import Failure, NoSourceError, SourceFailedError, failed
from edgewise.generation.attempt import Attempt, Stop
from edgewise.generation.event_emitter import Telling
from edgewise.generation.events import Outcome
from edgewise.generation.hedge import Lane, Race
from edgewise.generation.monitor import OFTEN, SELDOM, Oversight
from edgewise.generation.partial_response import Draft
from edgewise.generation.request import Request
from edgewise.generation.result import Chunk, Generation
from edgewise.generation.source import Sides
from edgewise.policy.types import Decision, NoSource, Progress, Reason, Source, Veto, VetoCode
from edgewise_edge import FinishReason


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a text stands when a side is chosen for the rest of it."""

    generated: tuple[int, ...] = ()
    elapsed: float = 0.0  # seconds since it was asked for
    abandoned: Mapping[Source, Veto] = field(default_factory=dict)  # sides it has left, and why


class Advisor(Protocol):
    """Gathers what is known and asks the policy (gathering.Gathering)."""

    def decide(self, request: Request, standing: Standing, /) -> Decision | NoSource:
        """Choose a side for the rest."""

    def reconsider(
        self, decision: Decision, progress: Progress, request: Request, standing: Standing, /
    ) -> Veto | None:
        """Why the side that writes should hand over; None to go on."""


class Writing:
    """One text being written, which either side can go on from."""

    def __init__(
        self,
        request: Request,
        decision: Decision,
        draft: Draft,
        *,
        advisor: Advisor,
        sides: Sides,
        telling: Telling,
    ) -> None:
        self.decision = decision
        self.cancelled = Stop()
        self._request, self._draft = request, draft
        self._advisor, self._sides, self._telling = advisor, sides, telling
        self._left: dict[Source, Veto] = {}
        self._told = False
        self._tell_decision()

    def run(self) -> Generator[Chunk, None, None]:
        """Write to the end, going on elsewhere when a side fails or hands over."""
        try:
            while not self._over():
                yield from self._attempt()
        finally:
            self.end(FinishReason.CANCELLED)

    def end(self, reason: FinishReason) -> None:
        """Finish the text here, unless it has ended."""
        self._draft.end(reason)
        if not self._told:
            self._told = True
            self._telling.completed(self.generation)

    def generation(self) -> Generation:
        """The result so far."""
        return self._draft.generation(self.decision)

    def _over(self) -> bool:
        return self._draft.finished or self.cancelled.is_set()

    def _attempt(self) -> Generator[Chunk, None, None]:
        """Let the side that was decided on write; if it leaves off, decide on another one."""
        lane = self._lane(self.decision)
        error: Exception | None = None
        outcome = Outcome.CANCELLED
        try:
            if self._request.hedge_after and not self._draft.token_ids and len(self._sides) > 1:
                with self._overseen(lane.attempt):
                    lane = self._race(lane, self._request.hedge_after)
            yield from self._follow(lane)
            if self._draft.finished:
                outcome = Outcome.FINISHED
            elif lane.attempt.handover and not self.cancelled.is_set():
                outcome = Outcome.HANDED_OVER
        except Failure as failure:
            if self._over():
                pass
            elif lane.attempt.handover:  # it broke by being stopped
                outcome = Outcome.HANDED_OVER
            else:
                outcome, error = Outcome.FAILED, failure
        except Exception as mistake:
            outcome, error = Outcome.FAILED, mistake
            self._draft.end(FinishReason.ERROR)
            raise
        finally:
            self._telling.attempt_ended(lane.attempt, outcome, error)
        if error:
            self._leave(lane.attempt.source, failed(error), error)
        elif lane.attempt.handover and not self._over():
            self._leave(lane.attempt.source, lane.attempt.handover)

    def _follow(self, lane: Lane) -> Generator[Chunk, None, None]:
        """Give out what a lane writes."""
        attempt, draft = lane.attempt, self._draft
        if lane.error:
            raise lane.error
        draft.begin(attempt)
        first = () if lane.token is None else (lane.token,)
        try:
            with closing(lane.tokens), self._overseen(attempt):
                for token in chain(first, lane.tokens):
                    if chunk := draft.take(token, attempt.source):
                        yield chunk
                    if draft.finished:
                        break
        finally:
            self._sides[attempt.source].source.learn(attempt)
        if not (self._over() or attempt.handover):
            raise SourceFailedError(f"{attempt.source} stopped before the text was finished")

    def _lane(self, decision: Decision) -> Lane:
        """A run of the side that was decided on, not begun yet."""
        side, draft = self._sides[decision.source], self._draft
        room = draft.tokens_left
        if side.source.cuts_at is not None and not self._request.sliding_window:
            room = min(room, side.source.cuts_at - draft.position)
        attempt = Attempt(
            source=decision.source,
            position=draft.position,
            max_tokens=room,
            time_left=self._time_left(decision),
            predicted=decision.predicted[decision.source],
            traceparent=self._telling.traceparent(),
        )
        self.cancelled.then(attempt.stop.set)
        return Lane(attempt, side.run(attempt, draft.token_ids, draft.end_ids))

    def _time_left(self, decision: Decision) -> float | None:
        """For how long a side may write: to the end of the budget, if the other can go on then."""
        budget, other = self._request.latency_budget, decision.vetoes.get(decision.source.other)
        missed = decision.reason in (Reason.BUDGET_MISSED, Reason.LAST_RESORT)
        if budget is None or missed or len(self._sides) == 1 or (other and not other.soft):
            return None
        left = budget - self._draft.elapsed
        return left if left > 0 else None  # what is spent already hurries nobody

    def _race(self, lane: Lane, hedge_after: float) -> Lane:
        """Let the other side race when there is no token for a while; the lane that won."""
        race, winner, failed_before = Race(), None, list[Lane]()
        try:
            race.enter(lane)
            winner = race.wait(hedge_after)
            if winner is None:
                if decision := self._hedge(lane.attempt.source, hedge_after):
                    race.enter(self._lane(decision))
                winner = race.wait()
            while winner and winner.token is None and (other := race.wait()):
                if self._lose(winner):  # it failed, and the other one is still running
                    failed_before.append(winner)
                winner = other
        finally:
            for loser in race.dismiss(winner):
                if loser not in failed_before:
                    self._telling.attempt_ended(loser.attempt, Outcome.LOST, None)
        winner = winner or lane
        if winner is not lane and winner.token is not None:
            self.decision = replace(
                self.decision, source=winner.attempt.source, reason=Reason.HEDGED
            )
            self._tell_decision()
        return winner

    def _hedge(self, slow: Source, after: float) -> Decision | None:
        """The decision for the other side, if it may be asked too."""
        late = Veto(VetoCode.STALLED, f"it had no token after {after:.1f} s", soft=True)
        outcome = self._advisor.decide(self._request, self._standing({slow: late}))
        if not isinstance(outcome, Decision) or outcome.source is slow:
            return None
        if outcome.source in outcome.vetoes:
            return None  # a last resort is none to be woken for speed
        self._telling.hedged(outcome.source, after)
        return outcome

    def _lose(self, lane: Lane) -> bool:
        """Leave a side that failed while the other was asked too; whether it did."""
        if lane.error is None or self.cancelled.is_set():
            return False
        self._left[lane.attempt.source] = failed(lane.error)
        self._telling.attempt_ended(lane.attempt, Outcome.FAILED, lane.error)
        return True

    def _leave(self, side: Source, why: Veto, cause: Exception | None = None) -> None:
        """Have the other side go on. Raises NoSourceError when it may not."""
        self._left[side] = why
        outcome = self._advisor.decide(self._request, self._standing())
        if isinstance(outcome, NoSource):
            self._telling.refused(outcome.vetoes, len(self._draft.token_ids))
            self.end(FinishReason.ERROR)
            raise NoSourceError(outcome) from cause
        self.decision = outcome
        self._telling.handed_over(
            outcome.source, self._draft.position, len(self._draft.token_ids), why
        )
        self._tell_decision()

    def _overseen(self, attempt: Attempt) -> AbstractContextManager[object]:
        """Look after it, where there is another side."""
        if len(self._sides) == 1:
            return nullcontext()

        def look() -> Veto | None:
            return self._advisor.reconsider(
                self.decision, attempt.progress(), self._request, self._standing()
            )

        budgeted = self._request.first_token_budget or self._request.latency_budget
        return Oversight(attempt, look, OFTEN if budgeted else SELDOM)

    def _standing(self, also_left: Mapping[Source, Veto] | None = None) -> Standing:
        return Standing(
            generated=self._draft.token_ids,
            elapsed=self._draft.elapsed,
            abandoned={**self._left, **(also_left or {})},
        )

    def _tell_decision(self) -> None:
        self._telling.decided(self.decision, self._draft.position, self._draft.tokens_left)
