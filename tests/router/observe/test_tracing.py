"""OpenTelemetry spans of a router's generations."""

import sys
from importlib import import_module

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from edgewise.delivery.events import RevisionStaged
from edgewise.errors import ConfigurationError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Refused,
    Scored,
)
from edgewise.generation.result import Timings
from edgewise.policy.types import Privacy
from edgewise.tracing import MAX_OPEN, Tracing
from edgewise_edge import FinishReason, Usage
from tests.router.observe.sample_events import AFTER_FAILURE, CLOUD, event


class Traced:
    """A Tracing whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    def tell(self, *events: Event) -> None:
        for one in events:
            self.tracing(one)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_generation_is_a_span_by_the_conventions(traced: Traced) -> None:
    """From the decision to the end."""
    traced.tell(event(Decided), event(Completed, time=1002.0))
    (span,) = traced.spans
    assert (span.name, span.kind) == ("text_completion tales", SpanKind.CLIENT)
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1002 * 10**9)
    assert span.status.status_code is StatusCode.UNSET
    assert span.attributes == {
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "edgewise",
        "gen_ai.request.model": "tales",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.stream": True,
        "gen_ai.response.id": "g1",
        "gen_ai.response.model": "tales@3",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 7,
        "gen_ai.usage.output_tokens": 5,
    }


@pytest.mark.parametrize(
    ("outcome", "status"), [("finished", StatusCode.UNSET), ("failed", StatusCode.ERROR)]
)
def test_score_is_a_span_without_new_tokens(
    traced: Traced, outcome: str, status: StatusCode
) -> None:
    """From the decision to the end."""
    traced.tell(event(Decided, max_tokens=0), event(Scored, time=1002.0, outcome=outcome))
    (span,) = traced.spans
    assert (span.end_time, span.status.status_code) == (1002 * 10**9, status)
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    assert span.attributes["gen_ai.usage.output_tokens"] == 0


def test_attempts_are_child_spans_and_the_rest_are_events(traced: Traced) -> None:
    """In order: chosen, failed, continued."""
    failed = {"source": CLOUD, "tokens": 2, "outcome": "failed", "error": "CloudUnavailableError"}
    traced.tell(
        event(Decided),
        event(Hedged, time=1000.25),
        event(AttemptEnded, time=1001.5, total=1.0, **failed),
        event(HandedOver, time=1001.5),
        event(Decided, time=1001.75, decision=AFTER_FAILURE, position=9, max_tokens=18),
        event(AttemptEnded, time=1004.0, total=2.0, first_token=None),
        event(Completed, time=1004.0),
    )
    cloud, device, whole = traced.spans
    assert [(cloud.name, cloud.start_time), (device.name, device.start_time)] == [
        ("attempt in_cloud", 1000_500_000_000),
        ("attempt on_device", 1002_000_000_000),
    ]
    assert cloud.parent.span_id == device.parent.span_id == whole.context.span_id
    assert cloud.attributes == {
        "edgewise.source": "in_cloud",
        "edgewise.outcome": "failed",
        "edgewise.tokens": 2,
        "edgewise.time_to_first_token": 0.5,
        "error.type": "CloudUnavailableError",
    }
    assert cloud.status.status_code is StatusCode.ERROR
    assert device.status.status_code is whole.status.status_code is StatusCode.UNSET
    assert [(one.name, one.timestamp // 10**6, dict(one.attributes)) for one in whole.events] == [
        ("decided", 1000_000, {"edgewise.source": "on_device", "edgewise.reason": "preferred"}),
        ("hedged", 1000_250, {"edgewise.source": "in_cloud"}),
        ("handed over", 1001_500, {"edgewise.source": "on_device", "edgewise.why": "failed"}),
        (
            "decided",
            1001_750,
            {
                "edgewise.source": "on_device",
                "edgewise.reason": "other_vetoed",
                "edgewise.veto.in_cloud": "failed",
            },
        ),
    ]
    assert whole.attributes["gen_ai.request.max_tokens"] == 20


def test_generation_without_a_token_has_no_first_chunk(traced: Traced) -> None:
    """It was cancelled before."""
    cancelled = {"finish_reason": FinishReason.CANCELLED, "usage": Usage(7, 0), "segments": ()}
    traced.tell(event(Decided), event(Completed, timings=Timings(None, 0.1, None), **cancelled))
    (span,) = traced.spans
    assert "gen_ai.response.time_to_first_chunk" not in span.attributes
    assert span.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)


def test_refusal_is_an_error_with_its_vetoes(traced: Traced) -> None:
    """A span without duration, since nothing was started."""
    traced.tell(event(Refused))
    (span,) = traced.spans
    assert span.start_time == span.end_time
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "NoSourceError"
    assert span.attributes["edgewise.veto.on_device"] == "memory"
    assert span.attributes["edgewise.veto.in_cloud"] == "offline"


def test_generation_that_no_source_may_continue_is_an_error(traced: Traced) -> None:
    """With the tokens so far."""
    ended = event(Completed, time=1002.0, finish_reason=FinishReason.ERROR)
    traced.tell(event(Decided), event(Refused, time=1001.0), ended)
    (span,) = traced.spans
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1002 * 10**9)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "NoSourceError"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert span.attributes["gen_ai.usage.output_tokens"] == 5


def test_parent_is_the_current_span(traced: Traced) -> None:
    """The one that is current at the call."""
    with traced.provider.get_tracer("app").start_as_current_span("answering") as outer:
        traced.tell(event(Decided))
    traced.tell(event(Completed))
    span = traced.spans[-1]
    assert span.parent.span_id == outer.get_span_context().span_id


def test_another_service_can_join_the_trace(traced: Traced) -> None:
    """While the generation runs."""
    assert traced.tracing.traceparent("g1") is None
    traced.tell(event(Decided))
    header = traced.tracing.traceparent("g1")
    traced.tell(event(Completed))
    (span,) = traced.spans
    trace, parent = format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)
    assert header == f"00-{trace}-{parent}-{span.context.trace_flags:02x}"
    assert traced.tracing.traceparent("g1") is None


def test_without_a_provider_there_is_no_trace() -> None:
    """OpenTelemetry's default does nothing."""
    tracing = Tracing()
    tracing(event(Decided))
    assert tracing.traceparent("g1") is None


def test_private_generation_has_no_span(traced: Traced) -> None:
    """An exporter may send spans over a network."""
    for kind in (Decided, Hedged, AttemptEnded, HandedOver, Decided, Completed, Refused):
        traced.tell(event(kind, privacy=Privacy.PRIVATE))
        assert traced.tracing.traceparent("g1") is None
    assert traced.spans == ()


def test_delivery_of_a_model_has_no_span(traced: Traced) -> None:
    """It belongs to no generation."""
    traced.tell(RevisionStaged(model="tales", revision="r1", time=1.0))
    assert not traced.spans


def test_oldest_open_generations_are_dropped(traced: Traced) -> None:
    """So that those never finished do not leak; the others are traced."""
    names = [f"g{number}" for number in range(MAX_OPEN + 1)]
    traced.tell(*(event(Decided, generation=name) for name in names))
    headers = [traced.tracing.traceparent(name) for name in names]
    assert headers.count(None) == 1
    assert headers[0] is None
    for name in (names[0], names[-1]):
        traced.tell(*(event(kind, generation=name) for kind in (AttemptEnded, Completed)))
    ended = [span.attributes.get("gen_ai.response.id") for span in traced.spans]
    assert ended == [None, names[-1]]  # an attempt and its generation
    assert traced.tracing.traceparent(names[-1]) is None
    assert traced.tracing.traceparent(names[1]) == headers[1]


def test_import_without_the_extra_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one sentence."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.delitem(sys.modules, "edgewise.tracing")
    with pytest.raises(ConfigurationError, match=r"pip install opentelemetry-api"):
        import_module("edgewise.tracing")


def test_generation_that_becomes_private_exports_no_span(traced: Traced) -> None:
    """What was collected of it before is dropped."""
    traced.tell(event(Decided))
    assert traced.tracing.traceparent("g1")
    traced.tell(
        event(HandedOver, privacy=Privacy.PRIVATE), event(Completed, privacy=Privacy.PRIVATE)
    )
    assert not traced.spans
    assert not traced.tracing.traceparent("g1")
