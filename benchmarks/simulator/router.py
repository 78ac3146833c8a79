"""The policy `edgewise`: the router's own decisions, predictions and circuit breaker.

The router itself is threads that wait for real time; this is the same loop (edgewise.generation.loop)
in virtual time.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from edgewise import LatencyLog, Measurement, PredictedTime
from edgewise.generation.handoff_monitor import BUDGET_POLL_INTERVAL, POLL_INTERVAL
from edgewise.policy import types
from edgewise.policy.advisor import Advisor
from edgewise.policy.types import Source, Veto, VetoCode

from .cloud import WINDOW, CloudRun, KnownCloud
from .device import LOAD_TIME, MODEL_BYTES, PREFILL_SPEED
from .simulation import LIMITS, Answer, Outcome, Run, Simulation
from .world import Process

DEVICE = "phone"
ENOUGH = 8  # tokens after which the measured gap replaces the predicted one
CALIBRATION = (65, 8)  # prompt tokens and new tokens before the first request


@dataclass(slots=True)
class Attempt:
    """Its progress, as edgewise.generation.attempt keeps it. Times in seconds."""

    position: int  # tokens there when it began
    max_tokens: int
    predicted: PredictedTime
    began: float
    alone: bool = True  # whether the device ran no other generation meanwhile
    first_token: float | None = None
    tokens: int = 0
    decode_time: float = 0.0  # from the first token to the last
    _last: float | None = None  # when the last token arrived

    def arrived(self, now: float) -> None:
        if self._last is None:
            self.first_token = now - self.began
        else:
            self.decode_time += now - self._last
        self._last = now
        self.tokens += 1

    def progress(self, now: float) -> types.Progress:
        """What the policy sees."""
        gap = self.decode_time / (self.tokens - 1) if self.tokens > ENOUGH else self.predicted.gap
        expected = gap if self.tokens else self.predicted.first_token
        silent = now - (self.began if self._last is None else self._last)
        remaining = None
        if expected is not None and gap is not None:
            remaining = abs(expected - silent) + gap * (self.max_tokens - self.tokens - 1)
        return types.Progress(silent=silent, expected=expected, remaining=remaining)

    def measurement(self, queued: float, now: float) -> Measurement:
        """What can be learned from it, once a token has arrived."""
        return Measurement(
            position=self.position,
            uncached=self.position,
            first_token=self.first_token or 0.0,
            tokens=self.tokens,
            decode_time=self.decode_time,
            queued=queued,
            at=now,
        )


class Router:
    """A router over a day."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation, self._clock = simulation, simulation.clock
        self._device = simulation.device
        self._latency = LatencyLog(clock=simulation.clock)
        self._cloud = KnownCloud(simulation.cloud, self._latency)
        states = self._device.state, self._edge_state, self._cloud.state
        self._advisor = Advisor(*states, LIMITS)
        self._latency.add_load_time(DEVICE, LOAD_TIME)
        (prompt, new), speed = CALIBRATION, simulation.device.world.speed
        calibration = Attempt(prompt, new, PredictedTime(), 0.0)
        calibration.first_token = (prompt / PREFILL_SPEED + 1) / speed
        calibration.tokens, calibration.decode_time = new, (new - 1) / speed
        self._latency.add(DEVICE, calibration.measurement(0.0, 0.0))

    def answer(self, outcome: Outcome) -> Process:
        """Decide and run; after a failure, or when the other source is better, decide again."""
        while not outcome.complete:
            request = _rest(outcome, self._clock())
            decision = self._advisor.decide(request, range(outcome.position))
            if isinstance(decision, types.NoSource):
                return
            if outcome.abandoned:
                outcome.handoffs += outcome.tokens > 0
                outcome.fallbacks += outcome.tokens == 0
            elif not outcome.request.private and (
                outcome.request.budgeted or decision.source is Source.IN_CLOUD
            ):
                self._cloud.refresh()
            why = yield from self._attempt(outcome, decision)
            if why:
                outcome.abandoned[decision.source] = why

    def _attempt(
        self, outcome: Outcome, decision: types.Decision
    ) -> Generator[float, None, Veto | None]:
        """Why the decision's source stopped; None if it completed the answer."""
        source = decision.source
        remaining = outcome.request.max_tokens - outcome.tokens
        predicted, alone = decision.predicted[source], not self._device.running
        attempt = Attempt(outcome.position, remaining, predicted, self._clock(), alone)
        permit = self._cloud.breaker.acquire() if source is Source.IN_CLOUD else None
        if source is Source.IN_CLOUD and not permit:
            return Veto(VetoCode.FAILED, "another request is trying it")
        with self._simulation.attempt(source, outcome) as run:
            why = yield from self._monitored(outcome, decision, run, attempt)
        if isinstance(run, CloudRun):
            failure = why if why and why.code in {VetoCode.FAILED, VetoCode.STALLED} else None
            measured = attempt.measurement(run.queued, self._clock()) if attempt.tokens else None
            self._cloud.ended(permit, measured, failure)
        elif attempt.tokens and attempt.alone:
            self._latency.add(DEVICE, attempt.measurement(0.0, self._clock()))
        return why

    def _monitored(
        self, outcome: Outcome, decision: types.Decision, run: Run, attempt: Attempt
    ) -> Generator[float, None, Veto | None]:
        clock, deadline = self._clock, _deadline(outcome, decision)
        every = BUDGET_POLL_INTERVAL if outcome.request.budgeted else POLL_INTERVAL
        check_at = clock() + every
        while not outcome.complete:
            step = run.step()
            ends = clock() + step.seconds
            while check_at < ends and not step.loading:
                yield max(0.0, check_at - clock())
                check_at += every
                if deadline is not None and clock() >= deadline:
                    return Veto(VetoCode.FAILED, "it was late")
                if not outcome.request.private:  # otherwise there is no other source
                    rest, progress = _rest(outcome, clock()), attempt.progress(clock())
                    tokens = range(outcome.position)
                    if why := self._advisor.reconsider(decision, progress, rest, tokens):
                        return why
            yield max(0.0, ends - clock())
            check_at = max(check_at, ends)
            attempt.alone &= self._device.running <= 1
            if step.failure:
                return Veto(VetoCode.FAILED, step.failure)
            if step.loading:
                attempt.began = clock()
            if step.token:
                self._simulation.arrived(decision.source, outcome)
                attempt.arrived(clock())
                if decision.source is Source.IN_CLOUD:
                    self._cloud.breaker.succeeded()
        return None

    def _edge_state(self, tokens: Sequence[int], max_tokens: int) -> types.EdgeState:
        loaded, queue = self._device.loaded, self._device.running
        predicted = self._latency.predict_on_device(
            DEVICE,
            position=len(tokens),
            uncached=len(tokens),
            max_tokens=max_tokens,
            loaded=loaded,
            queue_length=queue,
        )
        return types.EdgeState(
            availability=types.Availability.AVAILABLE,
            context_window=WINDOW,
            memory_needed=0 if loaded else MODEL_BYTES,
            queue_length=queue,
            predicted=predicted,
        )


def _rest(outcome: Outcome, now: float) -> types.RoutingRequest:
    """The request for the rest of an answer."""
    asked, elapsed = outcome.request, now - outcome.request.at
    first, whole = asked.first_token_budget, asked.latency_budget
    return types.RoutingRequest(
        mode=types.Mode.PREFER_ON_DEVICE,
        privacy=types.Privacy.PRIVATE if asked.private else types.Privacy.ALLOW_CLOUD,
        prompt_tokens=outcome.position,
        max_tokens=asked.max_tokens - outcome.tokens,
        first_token_budget=None if first is None or outcome.tokens else first - elapsed,
        latency_budget=None if whole is None else whole - elapsed,
        abandoned=dict(outcome.abandoned),
    )


def _deadline(outcome: Outcome, decision: types.Decision) -> float | None:
    """When the cloud may be cut off: at the end of the budget, if the device can continue then."""
    budget, veto = outcome.request.latency_budget, decision.vetoes.get(Source.ON_DEVICE)
    missed = decision.reason in (types.Reason.BUDGET_MISSED, types.Reason.LAST_RESORT)
    if decision.source is Source.ON_DEVICE or missed or (veto and not veto.soft):
        return None
    return None if budget is None else outcome.request.at + budget


def edgewise(simulation: Simulation) -> Answer:
    return Router(simulation).answer
