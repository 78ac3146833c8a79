"""OpenTelemetry spans of a router's generations, in the app's traces; needs the extra `otel`."""

from collections import OrderedDict
from collections.abc import Mapping

from edgewise.errors import ConfigurationError, NoSourceError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    GenerationEvent,
    HandedOver,
    Hedged,
    Outcome,
    Refused,
    Scored,
)
from edgewise.policy.types import Privacy, Source, VetoCode

try:
    from opentelemetry.trace import (
        Span,
        SpanKind,
        StatusCode,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise ConfigurationError("traces need OpenTelemetry: pip install opentelemetry-api") from error

OPERATION = "text_completion"
MAX_OPEN = 1024  # generations; those that are never finished would leak


class Tracing:
    """An Observer that records a span for each generation, with a child span for each attempt.

    Names follow OpenTelemetry's gen_ai conventions; attributes that these lack start with
    `edgewise.`. The parent is the current span at the call. Spans go to `provider`, by default the
    app's. Private generations have no span, since an exporter may send it over a network; that of
    one that becomes private is dropped. With more
    than 1,024 generations in flight the oldest are dropped.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("edgewise", tracer_provider=provider)
        # By generation, oldest first. Threads share it without a lock: each access is one operation.
        self._open: OrderedDict[str, Span] = OrderedDict()

    def __call__(self, event: Event) -> None:
        """See Observer."""
        if not isinstance(event, GenerationEvent):
            return
        if event.privacy is not Privacy.ALLOW_CLOUD:
            self._open.pop(event.generation, None)  # it became private: its span is not exported
            return
        match event:
            case Decided():
                self._decided(event)
            case AttemptEnded():
                self._attempted(event)
            case HandedOver(source=source, why=why):
                self._add_event(
                    event, "handed over", {"edgewise.source": source, "edgewise.why": why}
                )
            case Hedged(source=source):
                self._add_event(event, "hedged", {"edgewise.source": source})
            case Refused():
                self._refused(event)
            case Completed():
                self._completed(event)
            case Scored():
                self._scored(event)

    def traceparent(self, generation: str) -> str | None:
        """The W3C header with which another service's span joins that generation's trace.

        None without a span: the generation is private, finished, or not traced.
        """
        span = self._open.get(generation)
        header: dict[str, str] = {}
        if span:
            TraceContextTextMapPropagator().inject(header, set_span_in_context(span))
        return header.get("traceparent")

    def _decided(self, event: Decided) -> None:
        if event.generation not in self._open:
            self._keep(event.generation, self._start(event))
        vetoes = {source: veto.code for source, veto in event.decision.vetoes.items()}
        attributes = {
            "edgewise.source": event.decision.source,
            "edgewise.reason": event.decision.reason,
        }
        self._add_event(event, "decided", attributes | _veto_attributes(vetoes))

    def _attempted(self, event: AttemptEnded) -> None:
        generation = self._open.get(event.generation)
        if generation is None:
            return
        # Created at the end, since there is no event for the start.
        span = self._tracer.start_span(
            f"attempt {event.source}",
            context=set_span_in_context(generation),
            start_time=_nanoseconds(event.time - event.total),
            attributes={
                "edgewise.source": event.source,
                "edgewise.outcome": event.outcome,
                "edgewise.tokens": event.tokens,
            },
        )
        if event.first_token is not None:
            span.set_attribute("edgewise.time_to_first_token", event.first_token)
        if event.error:
            _fail(span, event.error)
        span.end(_nanoseconds(event.time))

    def _refused(self, event: Refused) -> None:
        started = self._open.get(event.generation)
        span = started or self._start(event)
        span.set_attributes(_veto_attributes(event.vetoes))
        _fail(span, NoSourceError.__name__)
        if not started:  # no Completed event follows
            span.end(_nanoseconds(event.time))

    def _completed(self, event: Completed) -> None:
        span = self._open.pop(event.generation, None)
        if span is None:
            return
        span.set_attributes(
            {
                "gen_ai.response.finish_reasons": [event.finish_reason.value],
                "gen_ai.usage.input_tokens": event.usage.prompt_tokens,
                "gen_ai.usage.output_tokens": event.usage.completion_tokens,
            }
        )
        if event.timings.time_to_first_token is not None:
            span.set_attribute(
                "gen_ai.response.time_to_first_chunk", event.timings.time_to_first_token
            )
        span.end(_nanoseconds(event.time))

    def _scored(self, event: Scored) -> None:
        if span := self._open.pop(event.generation, None):
            span.set_attribute("gen_ai.usage.output_tokens", 0)
            if event.outcome == Outcome.FAILED:
                span.set_status(StatusCode.ERROR)
            span.end(_nanoseconds(event.time))

    def _start(self, event: Decided | Refused) -> Span:
        attributes: dict[str, str | bool | int] = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": "edgewise",
            "gen_ai.request.model": event.model.partition("@")[0],
            "gen_ai.request.stream": True,  # generate() reads a stream, too
            "gen_ai.response.id": event.generation,
            "gen_ai.response.model": event.model,
        }
        if isinstance(event, Decided):  # the first one, whose position is the prompt's length
            attributes["gen_ai.request.max_tokens"] = event.max_tokens
            attributes["gen_ai.usage.input_tokens"] = event.position
        return self._tracer.start_span(
            f"{OPERATION} {attributes['gen_ai.request.model']}",
            kind=SpanKind.CLIENT,  # by the conventions; the service's span is its child
            start_time=_nanoseconds(event.time),
            attributes=attributes,
        )

    def _keep(self, generation: str, span: Span) -> None:
        self._open[generation] = span
        if len(self._open) > MAX_OPEN:
            # Neither ended nor exported: its end is unknown.
            self._open.popitem(last=False)

    def _add_event(self, event: GenerationEvent, name: str, attributes: Mapping[str, str]) -> None:
        if span := self._open.get(event.generation):
            span.add_event(name, attributes, _nanoseconds(event.time))


def _veto_attributes(codes: Mapping[Source, VetoCode]) -> dict[str, str]:
    return {f"edgewise.veto.{source}": code for source, code in codes.items()}


def _fail(span: Span, error: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", error)


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)
