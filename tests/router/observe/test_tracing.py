"""Spans of a router's generations, in memory."""

import sys
from importlib import import_module

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, format_span_id, format_trace_id

from edgewise.errors import ConfigurationError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Refused,
)
from edgewise.generation.result import Timings
from edgewise.policy.types import Privacy
from edgewise.tracing import MOST_OPEN, Tracing
from edgewise_edge import FinishReason, Usage
from tests.router.observe.sample_events import AFTER_FAILURE, CLOUD, happened


class Traced:
    """A Tracing whose spans stay in memory."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracing = Tracing(self.provider)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.tracing(event)

    @property
    def spans(self) -> tuple[ReadableSpan, ...]:
        return self._exporter.get_finished_spans()


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_a_generation_is_a_span_in_the_conventions_words(traced: Traced) -> None:
    """From the decision to the end."""
    traced.tell(happened(Decided), happened(Completed, time=1002.0))
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


def test_attempts_are_spans_within_it_and_the_rest_are_events(traced: Traced) -> None:
    """In order: who was chosen, who failed, who went on."""
    failed = {"source": CLOUD, "tokens": 2, "outcome": "failed", "error": "CloudUnavailableError"}
    traced.tell(
        happened(Decided),
        happened(Hedged, time=1000.25),
        happened(AttemptEnded, time=1001.5, total=1.0, **failed),
        happened(HandedOver, time=1001.5),
        happened(Decided, time=1001.75, decision=AFTER_FAILURE, position=9, max_tokens=18),
        happened(AttemptEnded, time=1004.0, total=2.0, first_token=None),
        happened(Completed, time=1004.0),
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
    assert [
        (event.name, event.timestamp // 10**6, dict(event.attributes)) for event in whole.events
    ] == [
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


def test_a_text_without_a_token_has_no_first_one(traced: Traced) -> None:
    """It was cancelled before."""
    cancelled = {"finish_reason": FinishReason.CANCELLED, "usage": Usage(7, 0), "segments": ()}
    traced.tell(
        happened(Decided), happened(Completed, timings=Timings(None, 0.1, None), **cancelled)
    )
    (span,) = traced.spans
    assert "gen_ai.response.time_to_first_chunk" not in span.attributes
    assert span.attributes["gen_ai.response.finish_reasons"] == ("cancelled",)


def test_a_refusal_is_an_error_with_its_vetoes(traced: Traced) -> None:
    """A span without a length, since nothing was begun."""
    traced.tell(happened(Refused))
    (span,) = traced.spans
    assert span.start_time == span.end_time
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "NoSourceError"
    assert span.attributes["edgewise.veto.on_device"] == "memory"
    assert span.attributes["edgewise.veto.in_cloud"] == "offline"


def test_a_text_that_no_side_may_go_on_with_is_an_error(traced: Traced) -> None:
    """And still tells how far it came."""
    ended = happened(Completed, time=1002.0, finish_reason=FinishReason.ERROR)
    traced.tell(happened(Decided), happened(Refused, time=1001.0), ended)
    (span,) = traced.spans
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1002 * 10**9)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "NoSourceError"
    assert span.attributes["gen_ai.response.finish_reasons"] == ("error",)
    assert span.attributes["gen_ai.usage.output_tokens"] == 5


def test_its_parent_is_the_span_of_the_app(traced: Traced) -> None:
    """The one that is current where the router is asked."""
    with traced.provider.get_tracer("app").start_as_current_span("answering") as outer:
        traced.tell(happened(Decided))
    traced.tell(happened(Completed))
    span = traced.spans[-1]
    assert span.parent.span_id == outer.get_span_context().span_id


def test_another_service_can_join_it(traced: Traced) -> None:
    """While it lasts."""
    assert traced.tracing.traceparent("g1") is None
    traced.tell(happened(Decided))
    header = traced.tracing.traceparent("g1")
    traced.tell(happened(Completed))
    (span,) = traced.spans
    trace, parent = format_trace_id(span.context.trace_id), format_span_id(span.context.span_id)
    assert header == f"00-{trace}-{parent}-{span.context.trace_flags:02x}"
    assert traced.tracing.traceparent("g1") is None


def test_without_the_apps_provider_there_is_nothing_to_join() -> None:
    """OpenTelemetry's own default does nothing."""
    tracing = Tracing()
    tracing(happened(Decided))
    assert tracing.traceparent("g1") is None


def test_a_private_generation_leaves_no_trace(traced: Traced) -> None:
    """An exporter may send spans over a network."""
    for kind in (Decided, Hedged, AttemptEnded, HandedOver, Decided, Completed, Refused):
        traced.tell(happened(kind, privacy=Privacy.PRIVATE))
        assert traced.tracing.traceparent("g1") is None
    assert traced.spans == ()


def test_generations_that_never_end_are_forgotten(traced: Traced) -> None:
    """The oldest first, so that they do not pile up; the others are traced as ever."""
    names = [f"g{number}" for number in range(MOST_OPEN + 1)]
    traced.tell(*(happened(Decided, generation=name) for name in names))
    assert len(traced.tracing._open) == MOST_OPEN
    for name in (names[0], names[-1]):
        traced.tell(*(happened(kind, generation=name) for kind in (AttemptEnded, Completed)))
    ended = [span.attributes.get("gen_ai.response.id") for span in traced.spans]
    assert ended == [None, names[-1]]  # an attempt and its generation
    assert len(traced.tracing._open) == MOST_OPEN - 1


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a sentence, by the import."""
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    monkeypatch.delitem(sys.modules, "edgewise.tracing")
    with pytest.raises(ConfigurationError, match=r"pip install 'edgewise\[otel\]'"):
        import_module("edgewise.tracing")
