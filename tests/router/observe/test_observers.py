"""Metrics, spans and log of a real router: what they hold, and that they hold no content."""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from opentelemetry.trace import format_trace_id
from prometheus_client import CollectorRegistry, generate_latest

from edgewise import DeviceState, Generation, LatencyLog, NoSourceError, Router
from edgewise.metrics import Metrics
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.router.observe.test_tracing import Traced
from tests.support.generate_requests import shows, until
from tests.support.service import serving

FINE = DeviceState(available_memory=10**10, battery=0.9, charging=False)
CANARY = "жгучий щавель"  # its token ids are numbers that do not occur otherwise
OPTIONS = {"max_tokens": 12, "seed": 5, "temperature": 1.0}
NOWHERE = "127.0.0.1:9"


@dataclass
class Observed:
    """The observers of a router, and what they recorded."""

    log: pytest.LogCaptureFixture
    traced: Traced = field(default_factory=Traced)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def router(self, folder: Path, **settings: object) -> Router:
        observers = [Metrics(self.registry), self.traced.tracing]
        settings = {"observers": observers, "threads": 1, **settings}
        return Router(folder, device=lambda: FINE, latency=LatencyLog(), **settings)

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"edgewise_router_{name}", labels)

    def everything(self) -> str:
        """All of it, as it would be exported."""
        spans = [span.to_json() for span in self.traced.spans]
        return "\n".join([generate_latest(self.registry).decode(), *spans, self.log.text])


@pytest.fixture(scope="module")
def cloud(exact_folder: Path) -> Iterator[str]:
    """The address of a service with the same model."""
    with serving(str(exact_folder)) as running:
        yield running.address


@pytest.fixture
def observed(caplog: pytest.LogCaptureFixture) -> Iterator[Observed]:
    with caplog.at_level(logging.DEBUG, logger="edgewise"):
        yield Observed(caplog)


def assert_no_content(observed: Observed, router: Router, answer: Generation | None) -> None:
    """Neither text nor token ids of the prompt or the answer."""
    prompt_ids = router.device_source.tokenizer.encode(CANARY)
    recorded = observed.everything()
    assert "Decided(" in recorded or "Refused(" in recorded  # the log is part of it
    assert shows(recorded + str(prompt_ids), prompt_ids)  # the check can fail
    assert not shows(recorded, prompt_ids)
    assert CANARY not in recorded
    if answer:
        assert not shows(recorded, answer.token_ids)
        assert answer.text not in recorded


def test_generation_on_the_device(exact_folder: Path, observed: Observed) -> None:
    """Metrics and spans hold the numbers of its result."""
    with observed.router(exact_folder) as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_no_content(observed, router, generation)
    assert observed.count("requests_total", finish_reason="length") == 1
    assert observed.count("generation_tokens_total", source="on_device") == 12
    assert observed.count("attempts_total", source="on_device", outcome="finished") == 1
    attempt, root = observed.traced.spans
    assert attempt.name == "attempt on_device"
    assert attempt.parent.span_id == root.context.span_id
    assert root.start_time <= attempt.start_time <= attempt.end_time <= root.end_time
    assert root.attributes["gen_ai.usage.input_tokens"] == generation.usage.prompt_tokens
    assert root.attributes["gen_ai.usage.output_tokens"] == 12
    assert (
        root.attributes["gen_ai.response.time_to_first_chunk"]
        == generation.timings.time_to_first_token
    )


def test_private_generation_is_counted_but_not_traced(
    exact_folder: Path, observed: Observed
) -> None:
    """A span might be sent elsewhere; metrics hold counts only."""
    with observed.router(exact_folder, cloud=NOWHERE) as router:
        generation = router.generate(CANARY, privacy="private", **OPTIONS)
        assert_no_content(observed, router, generation)
    assert observed.count("requests_total", finish_reason="length") == 1
    assert observed.traced.spans == ()


def test_generation_in_the_cloud(exact_folder: Path, observed: Observed, cloud: str) -> None:
    """As on the device, with the other source."""
    with observed.router(exact_folder, cloud=cloud, mode="prefer_in_cloud") as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_no_content(observed, router, generation)
    assert observed.count("decisions_total", source="in_cloud", reason="preferred") == 1
    assert observed.count("generation_tokens_total", source="in_cloud") == 12
    assert observed.traced.spans[0].name == "attempt in_cloud"


def test_span_of_the_service_joins_the_trace_of_the_router(
    exact_folder: Path, observed: Observed, cloud: str
) -> None:
    """By the traceparent header of the call."""

    def trace_ids() -> list[str | None]:
        served = [record for record in observed.log.records if record.message == "request"]
        return [record.fields.get("trace_id") for record in served]

    observed.log.set_level(logging.INFO, logger="edgewise_cloud.requests")
    with observed.router(exact_folder, cloud=cloud, mode="prefer_in_cloud") as router:
        for _ in range(2):
            router.generate(CANARY, **OPTIONS)
    until(lambda: len(trace_ids()) == 2)
    roots = [span for span in observed.traced.spans if span.parent is None]
    assert trace_ids() == [format_trace_id(span.context.trace_id) for span in roots]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_current_span_of_the_app_is_the_parent(
    exact_folder: Path, observed: Observed, asynchronous: bool
) -> None:
    """Also if the generation runs in another thread."""
    tracer = observed.traced.provider.get_tracer("app")
    with (
        observed.router(exact_folder) as router,
        tracer.start_as_current_span("answering") as outer,
    ):
        if asynchronous:
            asyncio.run(router.agenerate(CANARY, **OPTIONS))
        else:
            router.generate(CANARY, **OPTIONS)
    _, root, _ = observed.traced.spans
    assert root.parent.span_id == outer.get_span_context().span_id


def test_unreachable_cloud(exact_folder: Path, observed: Observed) -> None:
    """A failed attempt and a fallback."""
    with observed.router(exact_folder, cloud=NOWHERE, mode="prefer_in_cloud") as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_no_content(observed, router, generation)
    assert observed.count("attempts_total", source="in_cloud", outcome="failed") == 1
    assert observed.count("fallbacks_total", **{"from": "in_cloud", "why": "failed"}) == 1
    assert observed.count("requests_total", finish_reason="length") == 1
    failed, _, root = observed.traced.spans
    assert failed.attributes["error.type"] == "CloudUnavailableError"
    assert [event.name for event in root.events] == ["decided", "handed over", "decided"]


class QuotingService(pb_grpc.GeneratorServicer):
    """A cloud whose error messages quote the prompt."""

    def __init__(self, vocabulary: str) -> None:
        self._vocabulary = vocabulary

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> object:
        return pb.GetModelResponse(
            name="quoting", vocabulary=self._vocabulary, vocabulary_size=264, context_window=192
        )

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{list(request.token_ids)}: {CANARY}")


def test_error_message_that_quotes_the_prompt_is_not_recorded(
    exact_folder: Path, observed: Observed
) -> None:
    """Only the caller gets it."""
    server = grpc.server(ThreadPoolExecutor(2))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    with observed.router(exact_folder, cloud=address, mode="prefer_in_cloud") as router:
        servicer = QuotingService(router.device_source.tokenizer.fingerprint)
        pb_grpc.add_GeneratorServicer_to_server(servicer, server)
        server.start()
        generation = router.generate(CANARY, **OPTIONS)
        with pytest.raises(NoSourceError, match=CANARY):
            router.generate(CANARY, mode="only_in_cloud", **OPTIONS)
        assert_no_content(observed, router, generation)
    server.stop(None).wait()
    assert observed.count("attempts_total", source="in_cloud", outcome="failed") == 2
    assert observed.count("requests_total", finish_reason="error") == 1


@pytest.mark.parametrize("privacy", ["private", "allow_cloud"])
def test_refusal(exact_folder: Path, observed: Observed, privacy: str) -> None:
    """Counted for each veto, and traced as an error unless it is private."""
    with observed.router(exact_folder) as router:
        with pytest.raises(NoSourceError):
            router.generate(CANARY, mode="only_in_cloud", privacy=privacy)
        assert_no_content(observed, router, None)
    veto = "private" if privacy == "private" else "no_address"
    assert observed.count("refusals_total", source="on_device", veto="mode") == 1
    assert observed.count("refusals_total", source="in_cloud", veto=veto) == 1
    errors = [span.attributes["error.type"] for span in observed.traced.spans]
    assert errors == ([] if privacy == "private" else ["NoSourceError"])
