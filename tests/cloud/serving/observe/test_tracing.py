"""Spans of real requests, in memory and at a real OTLP collector."""

import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.observe.observers import ObserverSettings
from edgewise_cloud.serving.observe.tracing import Tracing
from edgewise_cloud.serving.types import Caller, RequestOutcome
from tests.support.generate_requests import CANARY, ask, shows
from tests.support.service import serving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{PARENT}-01"


def span_of(trace: str | None = None, **changes: object) -> ReadableSpan:
    """The span of one request."""
    exporter = InMemorySpanExporter()
    tracing = Tracing(exporter)
    outcome = {"code": grpc.StatusCode.OK, "arrived_at": 1000.0, "total_time": 2.0, **changes}
    tracing.request_ended(RequestOutcome(caller=Caller(name="someone", trace=trace), **outcome))
    tracing.close()
    (span,) = exporter.get_finished_spans()
    return span


def test_a_span_has_times_and_counts() -> None:
    """By the service's own clock, under OpenTelemetry's names."""
    span = span_of(
        prompt_tokens=7,
        cached_tokens=2,
        generated_tokens=5,
        queue_time=0.25,
        time_to_first_token=0.5,
        finish_reason="stop",
    )
    assert (span.name, span.kind) == ("edgewise.v1.Generator/Generate", SpanKind.SERVER)
    assert (span.start_time, span.end_time) == (1000 * 10**9, 1002 * 10**9)
    assert [(event.name, event.timestamp) for event in span.events] == [
        ("work began", 1000_250_000_000),
        ("first token", 1000_500_000_000),
    ]
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    assert span.attributes["gen_ai.usage.output_tokens"] == 5
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert span.status.status_code is StatusCode.UNSET


def test_a_scores_span_has_its_own_method() -> None:
    """It is no text completion."""
    span = span_of(method="Score", prompt_tokens=7)
    assert span.name == span.attributes["rpc.method"] == "edgewise.v1.Generator/Score"
    assert span.attributes["gen_ai.operation.name"] == "score"
    assert span.attributes["gen_ai.usage.input_tokens"] == 7


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (grpc.StatusCode.INTERNAL, StatusCode.ERROR),
        (grpc.StatusCode.UNAVAILABLE, StatusCode.ERROR),
        (grpc.StatusCode.INVALID_ARGUMENT, StatusCode.UNSET),
        (grpc.StatusCode.CANCELLED, StatusCode.UNSET),
    ],
)
def test_only_the_services_failures_are_errors(code: grpc.StatusCode, status: StatusCode) -> None:
    """The caller's mistakes are not errors of a server span."""
    span = span_of(code=code)
    assert span.status.status_code is status
    assert span.attributes["rpc.response.status_code"] == code.name


def test_it_joins_the_callers_trace() -> None:
    """The caller's span is the parent."""
    span = span_of(TRACEPARENT)
    assert span.context.trace_id == int(TRACE, 16)
    assert span.parent.span_id == int(PARENT, 16)


@pytest.mark.parametrize(
    "trace", [None, "", "00-", TRACEPARENT[:-1], f"00-{'0' * 32}-{PARENT}-01", "é" * 9000]
)
def test_a_malformed_header_is_ignored(trace: str | None) -> None:
    """A new trace begins."""
    span = span_of(trace)
    assert span.parent is None
    assert span.context.trace_id not in {0, int(TRACE, 16)}


def test_an_unsampled_trace_has_no_span() -> None:
    """As the standard sampler decides."""
    with pytest.raises(ValueError, match="not enough values"):
        span_of(f"00-{TRACE}-{PARENT}-00")


class Collector(otlp_grpc.TraceServiceServicer):
    """An OTLP collector that keeps its requests."""

    def __init__(self) -> None:
        self.requests: list[otlp.ExportTraceServiceRequest] = []

    def Export(
        self, request: otlp.ExportTraceServiceRequest, context: grpc.ServicerContext
    ) -> otlp.ExportTraceServiceResponse:
        self.requests.append(request)
        return otlp.ExportTraceServiceResponse()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector on a socket, set by the standard variables."""
    collector, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    otlp_grpc.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    server.start()
    yield collector
    server.stop(None).wait()


def test_draining_sends_all_spans(exact_folder: Path, collector: Collector) -> None:
    """To a real collector, for a real request, without any token."""
    begun = time.time_ns()
    with serving(str(exact_folder), observers=ObserverSettings(traces=True)) as running:
        answer = ask(running.address, traceparent=TRACEPARENT)
    spans = [
        (resource.resource, span)
        for request in collector.requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    ((resource, span),) = spans
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert begun <= span.start_time_unix_nano < span.end_time_unix_nano <= time.time_ns()
    attributes = {entry.key: entry.value for entry in span.attributes}
    assert attributes["gen_ai.request.model"].string_value == "exact"
    assert attributes["gen_ai.usage.input_tokens"].int_value == len(CANARY)
    assert attributes["gen_ai.usage.output_tokens"].int_value == len(answer)
    assert [event.name for event in span.events] == ["work began", "first token"]
    names = {entry.key: entry.value.string_value for entry in resource.attributes}
    assert names["service.name"] == "edgewise-cloud"
    sent = str(collector.requests)
    assert not shows(sent, CANARY)
    assert not shows(sent, answer)


def test_the_standard_variable_names_the_service(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OTEL_SERVICE_NAME overrides our default."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "tales-west")
    tracing = Tracing()
    caller = Caller(name="someone")
    tracing.request_ended(
        RequestOutcome(caller=caller, code=grpc.StatusCode.OK, arrived_at=1.0, total_time=1.0)
    )
    tracing.close()
    assert "tales-west" in str(collector.requests)


def test_without_the_extra_it_says_what_to_install(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything listens."""
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    monkeypatch.delitem(sys.modules, "edgewise_cloud.serving.observe.tracing")
    with (
        pytest.raises(ServeError, match="pip install opentelemetry-sdk"),
        serving(str(exact_folder), load=False, observers=ObserverSettings(traces=True)),
    ):
        pass
