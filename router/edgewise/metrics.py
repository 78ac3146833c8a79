"""Prometheus metrics of a router, in the app's own registry; needs the extra `metrics`."""

from collections.abc import Iterable, Sequence
from itertools import product

from edgewise.delivery.events import (
    ModelEvent,
    RevisionActivated,
    RevisionRefused,
    RevisionRolledBack,
    RevisionStaged,
    UpdateChecked,
    UpdateDeferred,
)
from edgewise.errors import ConfigurationError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Outcome,
    Refused,
    Scored,
)
from edgewise.policy.types import Reason, Source, VetoCode
from edgewise_edge import FinishReason

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
except ImportError as error:
    raise ConfigurationError(
        "metrics need prometheus-client: pip install prometheus-client"
    ) from error


# Buckets in seconds, those of the cloud service, so that client and server can be compared.
TOKENS = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5),
)
FIRST_TOKENS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1, 1.5, 2.5, 5, 10, 20, 30, 60),
)
_DELIVERIES: dict[type[ModelEvent], str] = {
    UpdateChecked: "checked",
    UpdateDeferred: "deferred",
    RevisionStaged: "staged",
    RevisionActivated: "activated",
    RevisionRefused: "refused",
    RevisionRolledBack: "rolled_back",
}
WHOLE_REQUESTS = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 7.5, 10, 15, 20, 30, 60, 120, 300)


class Metrics:
    """An Observer that counts what a router does, including private generations. Never content.

    Routers may share one, which then holds their sums. Raises ConfigurationError if `registry`
    already has one.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._registry = registry
        try:
            self._register()
        except ValueError as error:
            raise ConfigurationError(
                "this registry already has the metrics of a router; make one Metrics and give it "
                "to every router, or give each a registry of its own"
            ) from error

    def _register(self) -> None:
        self._requests = self._counter(
            "requests", "Requests finished that had a source.", finish_reason=FinishReason
        )
        self._decisions = self._counter(
            "decisions",
            "Sources chosen, once more for the rest of a generation after a failure or handoff.",
            source=Source,
            reason=Reason,
        )
        self._refusals = self._counter(
            "refusals",
            "Requests that no source may answer, by each veto.",
            source=Source,
            veto=VetoCode,
        )
        self._attempts = self._counter(
            "attempts", "Attempts finished.", source=Source, outcome=Outcome
        )
        handed_over = {"from": Source, "why": VetoCode}
        self._fallbacks = self._counter(
            "fallbacks", "Generations taken over by the other source before a token.", **handed_over
        )
        self._handoffs = self._counter(
            "handoffs", "Generations continued by the other source after a token.", **handed_over
        )
        self._hedges = self._counter(
            "hedges",
            "Times the other source was started too because no token had arrived.",
            source=Source,
        )
        self._scores = self._counter(
            "scores",
            "Scores of prompts finished, by the source asked last.",
            source=Source,
            outcome=Outcome,
        )
        self._tokens = self._counter("generation_tokens", "Tokens delivered.", source=Source)
        self._deliveries = self._counter(
            "model_deliveries",
            "What happened to the model's revisions on this device.",
            event=_DELIVERIES.values(),
        )
        self._first_token = self._histogram(
            "time_to_first_token", "From the call to the first token, by its source.", FIRST_TOKENS
        )
        self._per_token = self._histogram(
            "request_time_per_output_token",
            "Mean time between tokens of a generation from one source, without the caller's time.",
            TOKENS,
        )
        self._whole = self._histogram(
            "e2e_request_latency",
            "From the call to the last token, by its source.",
            WHOLE_REQUESTS,
        )

    def __call__(self, event: Event) -> None:
        """See Observer."""
        match event:
            case Decided(decision=decision):
                self._decisions.labels(decision.source, decision.reason).inc()
            case AttemptEnded():
                self._attempts.labels(event.source, event.outcome).inc()
            case HandedOver():
                counter = self._handoffs if event.tokens else self._fallbacks
                counter.labels(event.source.other, event.why).inc()
            case Hedged():
                self._hedges.labels(event.source).inc()
            case Refused():
                for source, veto in event.vetoes.items():
                    self._refusals.labels(source, veto).inc()
            case Completed():
                self._completed(event)
            case Scored():
                self._scores.labels(event.source, event.outcome).inc()
            case ModelEvent() if type(event) in _DELIVERIES:
                self._deliveries.labels(_DELIVERIES[type(event)]).inc()

    def _completed(self, event: Completed) -> None:
        self._requests.labels(event.finish_reason).inc()
        for segment in event.segments:
            self._tokens.labels(segment.source).inc(segment.tokens)
        if not event.segments:
            return
        first, last, timings = event.segments[0].source, event.segments[-1].source, event.timings
        if timings.time_to_first_token is not None:
            self._first_token.labels(first).observe(timings.time_to_first_token)
        if timings.tokens_per_second and len(event.segments) == 1:
            self._per_token.labels(first).observe(1 / timings.tokens_per_second)
        self._whole.labels(last).observe(timings.total)

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        counter = Counter(
            name, text, tuple(labels), namespace="edgewise_router", registry=self._registry
        )
        for values in product(*labels.values()):  # rate() needs the 0 before the first
            counter.labels(*values)
        return counter

    def _histogram(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        histogram = Histogram(
            name,
            text,
            ("source",),
            namespace="edgewise_router",
            unit="seconds",
            registry=self._registry,
            buckets=buckets,
        )
        for source in Source:
            histogram.labels(source)
        return histogram
