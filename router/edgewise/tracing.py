"""OpenTelemetry spans of a router's generations, in the app's traces; needs the extra `otel`."""

from collections import OrderedDict
from collections.abc import Mapping

from edgewise.errors import ConfigurationError, NoSourceError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Hedged,
    Refused,
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
    raise ConfigurationError("traces need OpenTelemetry: pip install 'edgewise[otel]'") from error

OPERATION = "text_completion"
MOST_OPEN = 1024  # generations; those that nobody reads to the end would pile up


class Tracing:
    """An Observer that makes a span of each generation, and within it one of each attempt.

    Names are those of OpenTelemetry's gen_ai conventions; what they have no word for begins with
    `edgewise.`. A span's parent is the one that is current where the generation is asked for.
    Spans go to `provider`, by default the app's. Of a private generation there is no span: an
    exporter may send spans over a network. Beyond 1,024 generations under way the oldest are
    forgotten.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("edgewise", tracer_provider=provider)
        # By generation, the oldest first. Several threads use it, each in one operation at a time.
        self._open: OrderedDict[str, Span] = OrderedDict()

    def __call__(self, event: Event) -> None:
        """See Observer."""
        if event.privacy is not Privacy.ALLOW_CLOUD:
            return
        match event:
            case Decided():
                self._decided(event)
            case AttemptEnded():
                self._attempted(event)
            case HandedOver(source=source, why=why):
                self._tell(event, "handed over", {"edgewise.source": source, "edgewise.why": why})
            case Hedged(source=source):
                self._tell(event, "hedged", {"edgewise.source": source})
            case Refused():
                self._refused(event)
            case Completed():
                self._completed(event)

    def traceparent(self, generation: str) -> str | None:
        """The W3C header by which another service's span joins that generation's.

        None where there is no such span: the generation is private, over, or in no trace.
        """
        span = self._open.get(generation)
        header: dict[str, str] = {}
        if span:
            TraceContextTextMapPropagator().inject(header, set_span_in_context(span))
        return header.get("traceparent")

    def _decided(self, event: Decided) -> None:
        if event.generation not in self._open:
            self._keep(event.generation, self._begin(event))
        vetoes = {side: veto.code for side, veto in event.decision.vetoes.items()}
        chosen = {
            "edgewise.source": event.decision.source,
            "edgewise.reason": event.decision.reason,
        }
        self._tell(event, "decided", chosen | _vetoes(vetoes))

    def _attempted(self, event: AttemptEnded) -> None:
        generation = self._open.get(event.generation)
        if generation is None:
            return
        # Made at its end, since nothing tells of its beginning.
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
        begun = self._open.get(event.generation)
        span = begun or self._begin(event)
        span.set_attributes(_vetoes(event.vetoes))
        _fail(span, NoSourceError.__name__)
        if not begun:  # and so will not complete
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

    def _begin(self, event: Decided | Refused) -> Span:
        attributes: dict[str, str | bool | int] = {
            "gen_ai.operation.name": OPERATION,
            "gen_ai.provider.name": "edgewise",
            "gen_ai.request.model": event.model.partition("@")[0],
            "gen_ai.request.stream": True,  # what is asked for whole is a stream, too, gathered
            "gen_ai.response.id": event.generation,
            "gen_ai.response.model": event.model,
        }
        if isinstance(event, Decided):  # the first, when the prompt is all there is
            attributes["gen_ai.request.max_tokens"] = event.max_tokens
            attributes["gen_ai.usage.input_tokens"] = event.position
        return self._tracer.start_span(
            f"{OPERATION} {attributes['gen_ai.request.model']}",
            kind=SpanKind.CLIENT,  # as the conventions want it; the service's span is its child
            start_time=_nanoseconds(event.time),
            attributes=attributes,
        )

    def _keep(self, generation: str, span: Span) -> None:
        self._open[generation] = span
        if len(self._open) > MOST_OPEN:
            # Not ended, and so not exported: when it ended, nobody knows.
            self._open.popitem(last=False)

    def _tell(self, event: Event, name: str, attributes: Mapping[str, str]) -> None:
        if span := self._open.get(event.generation):
            span.add_event(name, attributes, _nanoseconds(event.time))


def _vetoes(codes: Mapping[Source, VetoCode]) -> dict[str, str]:
    return {f"edgewise.veto.{side}": code for side, code in codes.items()}


def _fail(span: Span, error: str) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", error)


def _nanoseconds(moment: float) -> int:
    return round(moment * 1e9)
