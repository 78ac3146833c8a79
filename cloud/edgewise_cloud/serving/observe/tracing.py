"""OpenTelemetry traces of requests, joined to their callers' traces; needs the extra `otel`."""

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.types import RequestOutcome

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ServeError(
        "traces need OpenTelemetry: pip install opentelemetry-sdk opentelemetry-exporter-otlp-proto-grpc"
    ) from error

SERVICE = "edgewise.v1.Generator"
# In the conventions' words; they have none for a score.
_OPERATIONS = {"Generate": "text_completion", "Score": "score"}

# The codes that OpenTelemetry's conventions count as server errors.
FAILURES = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)


class Tracing:
    """An Observer that makes a span for each request, at its end.

    Spans go to `exporter`; without one, to an OTLP collector over gRPC, set by the standard OTEL_*
    variables. The provider is private, not the process's.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        # The variables are merged last, so they win.
        resource = Resource({SERVICE_NAME: "edgewise-cloud"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            resource=Resource.create(resource.attributes), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("edgewise_cloud")

    def token_sent(self, gap: float | None) -> None:
        """See Observer."""

    def request_ended(self, outcome: RequestOutcome) -> None:
        """See Observer."""
        trace = outcome.caller.trace
        span = self._tracer.start_span(
            _method(outcome),
            # Without a valid header, a new trace begins here.
            context=TraceContextTextMapPropagator().extract({"traceparent": trace or ""}),
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(outcome.arrived_at),
            attributes=_attributes(outcome),
        )
        for name, after in (
            ("work began", outcome.queue_time),
            ("first token", outcome.time_to_first_token),
        ):
            if after is not None:
                span.add_event(name, timestamp=_nanoseconds(outcome.arrived_at + after))
        if outcome.code in FAILURES:
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(outcome.arrived_at + outcome.total_time))

    def close(self) -> None:
        """Send the remaining spans. Blocks up to 30 s if the collector is gone."""
        self._provider.shutdown()


def _attributes(outcome: RequestOutcome) -> dict[str, str | int | list[str]]:
    attributes: dict[str, str | int | list[str]] = {
        "rpc.system.name": "grpc",
        "rpc.method": _method(outcome),
        "rpc.response.status_code": outcome.code.name,
        "gen_ai.operation.name": _OPERATIONS[outcome.method],
        "gen_ai.provider.name": "edgewise",
        "gen_ai.usage.input_tokens": outcome.prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": outcome.cached_tokens,
        "gen_ai.usage.output_tokens": outcome.generated_tokens,
    }
    if outcome.model:
        attributes["gen_ai.request.model"] = outcome.model
    if outcome.finish_reason:
        attributes["gen_ai.response.finish_reasons"] = [outcome.finish_reason]
    return attributes


def _method(outcome: RequestOutcome) -> str:
    return f"{SERVICE}/{outcome.method}"


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)
