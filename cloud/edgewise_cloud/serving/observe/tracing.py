"""OpenTelemetry traces of requests, joined to their callers' traces; needs the extra `otel`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.types import Outcome

try:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import SpanKind, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ServeError("traces need OpenTelemetry: pip install 'edgewise-cloud[otel]'") from error

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine

METHOD = "edgewise.v1.Generator/Generate"

# Those that OpenTelemetry's conventions call a server's own failures.
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
    """An Observer that makes a span of each request, at its end.

    Spans go to `exporter`; without one to an OTLP collector over gRPC, as the standard OTEL_*
    variables say. The provider is its own, not the process's.
    """

    def __init__(
        self, engine: Callable[[], "Engine | None"], exporter: SpanExporter | None = None
    ) -> None:
        self._engine = engine
        # The variables last: they win.
        resource = Resource({SERVICE_NAME: "edgewise-cloud"}).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(
            resource=Resource.create(resource.attributes), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("edgewise_cloud")

    def token(self, gap: float | None) -> None:
        """See Observer."""

    def ended(self, outcome: Outcome) -> None:
        """See Observer."""
        trace = outcome.caller.trace
        span = self._tracer.start_span(
            METHOD,
            # Without a header, or with a malformed one, a trace begins here.
            context=TraceContextTextMapPropagator().extract({"traceparent": trace or ""}),
            kind=SpanKind.SERVER,
            start_time=_nanoseconds(outcome.arrived),
            attributes=self._attributes(outcome),
        )
        for name, after in (
            ("work began", outcome.queued),
            ("first token", outcome.time_to_first_token),
        ):
            if after is not None:
                span.add_event(name, timestamp=_nanoseconds(outcome.arrived + after))
        if outcome.code in FAILURES:
            span.set_status(StatusCode.ERROR)
        span.end(_nanoseconds(outcome.arrived + outcome.total))

    def close(self) -> None:
        """Send what is left. Blocks, for half a minute at most if the collector is gone."""
        self._provider.shutdown()

    def _attributes(self, outcome: Outcome) -> dict[str, str | int | list[str]]:
        engine = self._engine()
        attributes: dict[str, str | int | list[str]] = {
            "rpc.system.name": "grpc",
            "rpc.method": METHOD,
            "rpc.response.status_code": outcome.code.name,
            "gen_ai.operation.name": "text_completion",
            "gen_ai.provider.name": "edgewise",
            "gen_ai.usage.input_tokens": outcome.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": outcome.reused_tokens,
            "gen_ai.usage.output_tokens": outcome.generated_tokens,
        }
        if engine:
            attributes["gen_ai.request.model"] = engine.model.name
        if outcome.finish_reason:
            attributes["gen_ai.response.finish_reasons"] = [outcome.finish_reason]
        return attributes


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)
