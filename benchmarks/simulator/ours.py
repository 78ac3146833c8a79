"""Our strategy: what the router does, with the real policy, predictions and circuit breaker.

The router itself is threads that wait for real time; this is the same loop (edgewise.generation.loop,
edgewise.policy.advisor) in virtual time.
"""

from collections.abc import Generator
from dataclasses import dataclass, field

from edgewise.generation.monitor import OFTEN, SELDOM
from edgewise.latency.log import LatencyLog
from edgewise.latency.measurement import Measurement
from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    Availability,
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Limits,
    Mode,
    NoSource,
    Privacy,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)

from .clock import Process
from .day import LIMITS, Day, Run, Strategy
from .known_cloud import WINDOW, KnownCloud
from .outcome import Outcome
from .pace import Pace
from .phone import LOAD, MODEL, READS
from .service import ServiceRun

DEVICE = "phone"
CALIBRATION = (65, 8)  # tokens read and written before the first request

Situation = tuple[DeviceState, EdgeState, CloudState, Limits]


@dataclass(slots=True)
class Writing:
    """A text, and the sides that it has left."""

    outcome: Outcome
    left: dict[Source, Veto] = field(default_factory=dict)

    def request(self, now: float) -> RoutingRequest:
        """For the rest of it."""
        asked, written = self.outcome.asked, self.outcome.written
        first, whole, gone = asked.first_token_budget, asked.latency_budget, now - asked.at
        return RoutingRequest(
            mode=Mode.PREFER_ON_DEVICE,
            privacy=Privacy.PRIVATE if asked.private else Privacy.ALLOW_CLOUD,
            prompt_tokens=self.outcome.position,
            max_tokens=asked.max_tokens - written,
            first_token_budget=None if first is None or written else first - gone,
            latency_budget=None if whole is None else whole - gone,
            abandoned=dict(self.left),
        )


class Ours:
    """A router over a day."""

    def __init__(self, day: Day) -> None:
        self._day, self._clock = day, day.clock
        self._latency = LatencyLog(clock=day.clock)
        self._cloud = KnownCloud(day.service, day.clock, self._latency)
        self._latency.add_load_time(DEVICE, LOAD)
        self._latency.add(DEVICE, _calibration(day.phone.world.writes))

    def answer(self, outcome: Outcome) -> Process:
        """Decide, run, and on failure or for the better decide again."""
        writing = Writing(outcome)
        while not outcome.complete:
            request = writing.request(self._clock())
            decision = decide(request, *self._situation(request))
            if isinstance(decision, NoSource):
                return
            if writing.left:
                outcome.moved()
            elif not outcome.asked.private and (
                outcome.asked.budgeted or decision.source is Source.IN_CLOUD
            ):
                self._cloud.refresh()
            why = yield from self._attempted(writing, decision)
            if why:
                writing.left[decision.source] = why

    def _attempted(
        self, writing: Writing, decision: Decision
    ) -> Generator[float, None, Veto | None]:
        """Why the side of this decision stopped; None if it wrote all."""
        source, outcome = decision.source, writing.outcome
        pace = Pace(
            position=outcome.position,
            max_tokens=outcome.asked.max_tokens - outcome.written,
            predicted=decision.predicted[source],
            begun=self._clock(),
            alone=not self._day.phone.running,
        )
        entry = self._cloud.enter() if source is Source.IN_CLOUD else None
        if source is Source.IN_CLOUD and not entry:
            return Veto(VetoCode.FAILED, "another request is trying it")
        with self._day.writing(source, outcome) as run:
            why = yield from self._overseen(writing, decision, run, pace)
        if source is Source.ON_DEVICE:
            if pace.tokens and pace.alone:
                self._latency.add(DEVICE, pace.measurement(0.0, self._clock()))
        elif isinstance(run, ServiceRun):
            failure = why if why and why.code in {VetoCode.FAILED, VetoCode.STALLED} else None
            queued = run.queued if pace.tokens else 0.0  # said with the first token
            self._cloud.ended(entry, pace, queued, failure)
        return why

    def _overseen(
        self, writing: Writing, decision: Decision, run: Run, pace: Pace
    ) -> Generator[float, None, Veto | None]:
        outcome, deadline = writing.outcome, _deadline(writing, decision)
        every = OFTEN if outcome.asked.budgeted else SELDOM
        look_at = self._clock() + every
        while not outcome.complete:
            wait = run.go_on()
            arrives = self._clock() + wait.seconds
            while look_at < arrives and not wait.loading:
                yield max(0.0, look_at - self._clock())
                look_at += every
                if deadline is not None and self._clock() >= deadline:
                    return Veto(VetoCode.FAILED, "it was late")
                if why := self._reconsidered(writing, decision, pace):
                    return why
            yield max(0.0, arrives - self._clock())
            look_at = max(look_at, arrives)
            pace.alone &= self._day.phone.running <= 1
            if wait.failure:
                return Veto(VetoCode.FAILED, wait.failure)
            if wait.loading:
                pace.loaded(wait.seconds, self._clock())
            if wait.token:
                self._took(decision.source, outcome, pace)
        return None

    def _took(self, source: Source, outcome: Outcome, pace: Pace) -> None:
        self._day.took(source, outcome)
        pace.took(self._clock())
        if source is Source.IN_CLOUD:
            self._cloud.succeeded()

    def _reconsidered(self, writing: Writing, decision: Decision, pace: Pace) -> Veto | None:
        if writing.outcome.asked.private:  # there is no other side
            return None
        request = writing.request(self._clock())
        progress = pace.progress(self._clock())
        return reconsider(decision, progress, request, *self._situation(request))

    def _situation(self, request: RoutingRequest) -> Situation:
        phone, position, tokens = self._day.phone, request.prompt_tokens, request.max_tokens
        edge = EdgeState(
            availability=Availability.AVAILABLE,
            context_window=WINDOW,
            memory_needed=0 if phone.loaded else MODEL,
            queue_length=phone.running,
            predicted=self._latency.predict_on_device(
                DEVICE,
                position=position,
                uncached=position,
                max_tokens=tokens,
                loaded=phone.loaded,
                queue_length=phone.running,
            ),
        )
        # As the router: for a private request the cloud is not even looked at.
        private = request.privacy is Privacy.PRIVATE
        cloud = CloudState(address=None) if private else self._cloud.state(position, tokens)
        return phone.state(), edge, cloud, LIMITS


def ours(day: Day) -> Strategy:
    """The router."""
    return Ours(day).answer


def _deadline(writing: Writing, decision: Decision) -> float | None:
    """When the cloud may be cut off: at the end of the budget, where the device can go on then."""
    asked, veto = writing.outcome.asked, decision.vetoes.get(Source.ON_DEVICE)
    missed = decision.reason in (Reason.BUDGET_MISSED, Reason.LAST_RESORT)
    if decision.source is Source.ON_DEVICE or missed or (veto and not veto.soft):
        return None
    return None if asked.latency_budget is None else asked.at + asked.latency_budget


def _calibration(writes: float) -> Measurement:
    """What the router measures before the first request that has a budget."""
    read, written = CALIBRATION
    return Measurement(
        position=read,
        uncached=read,
        first_token=(read / READS + 1) / writes,
        tokens=written,
        decode_time=(written - 1) / writes,
    )
