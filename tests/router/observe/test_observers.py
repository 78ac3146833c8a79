"""What those who watch a real router see: metrics, spans and the log."""

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
CANARY = "жгучий щавель"  # bytes whose token ids are no usual numbers
OPTIONS = {"max_tokens": 12, "seed": 5, "temperature": 1.0}
NOWHERE = "127.0.0.1:9"


@dataclass
class Watched:
    """A router's observers, and what they saw."""

    log: pytest.LogCaptureFixture
    traced: Traced = field(default_factory=Traced)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def router(self, folder: Path, **settings: object) -> Router:
        observers = [Metrics(self.registry), self.traced.tracing]
        settings = {"observers": observers, "threads": 1, **settings}
        return Router(folder, device=lambda: FINE, latency=LatencyLog(), **settings)

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"edgewise_router_{name}", labels)

    def all(self) -> str:
        """Everything, as it would be shown, stored or sent."""
        spans = [span.to_json() for span in self.traced.spans]
        return "\n".join([generate_latest(self.registry).decode(), *spans, self.log.text])


@pytest.fixture(scope="module")
def cloud(exact_folder: Path) -> Iterator[str]:
    """The address of a service of the same model."""
    with serving(str(exact_folder)) as running:
        yield running.address


@pytest.fixture
def watched(caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    with caplog.at_level(logging.DEBUG, logger="edgewise"):
        yield Watched(caplog)


def assert_says_nothing_of(watched: Watched, router: Router, answer: Generation | None) -> None:
    """Neither text nor token ids of the prompt or the answer."""
    prompt_ids = router.device_source.tokenizer.encode(CANARY)
    seen = watched.all()
    assert "Decided(" in seen or "Refused(" in seen  # the log was heard
    assert shows(seen + str(prompt_ids), prompt_ids)  # as it would be found
    assert not shows(seen, prompt_ids)
    assert CANARY not in seen
    if answer:
        assert not shows(seen, answer.token_ids)
        assert answer.text not in seen


def test_a_generation_on_the_device(exact_folder: Path, watched: Watched) -> None:
    """Its numbers are those of the result, and nobody is told what it says."""
    with watched.router(exact_folder) as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_says_nothing_of(watched, router, generation)
    assert watched.count("requests_total", finish_reason="length") == 1
    assert watched.count("generation_tokens_total", source="on_device") == 12
    assert watched.count("attempts_total", source="on_device", outcome="finished") == 1
    attempt, whole = watched.traced.spans
    assert attempt.name == "attempt on_device"
    assert attempt.parent.span_id == whole.context.span_id
    assert whole.start_time <= attempt.start_time <= attempt.end_time <= whole.end_time
    assert whole.attributes["gen_ai.usage.input_tokens"] == generation.usage.prompt_tokens
    assert whole.attributes["gen_ai.usage.output_tokens"] == 12
    assert (
        whole.attributes["gen_ai.response.time_to_first_chunk"]
        == generation.timings.time_to_first_token
    )


def test_a_private_one_is_counted_and_not_traced(exact_folder: Path, watched: Watched) -> None:
    """Spans are made to be sent, metrics to be fetched; and neither says what it is about."""
    with watched.router(exact_folder, cloud=NOWHERE) as router:
        generation = router.generate(CANARY, privacy="private", **OPTIONS)
        assert_says_nothing_of(watched, router, generation)
    assert watched.count("requests_total", finish_reason="length") == 1
    assert watched.traced.spans == ()


def test_a_generation_in_the_cloud(exact_folder: Path, watched: Watched, cloud: str) -> None:
    """As on the device, by the other name."""
    with watched.router(exact_folder, cloud=cloud, mode="prefer_in_cloud") as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_says_nothing_of(watched, router, generation)
    assert watched.count("decisions_total", source="in_cloud", reason="preferred") == 1
    assert watched.count("generation_tokens_total", source="in_cloud") == 12
    assert watched.traced.spans[0].name == "attempt in_cloud"


def test_the_services_span_joins_the_routers(
    exact_folder: Path, watched: Watched, cloud: str
) -> None:
    """By the header that its call carries."""

    def trace_ids() -> list[str | None]:
        served = [record for record in watched.log.records if record.message == "request"]
        return [record.fields.get("trace_id") for record in served]

    watched.log.set_level(logging.INFO, logger="edgewise_cloud.requests")
    with watched.router(exact_folder, cloud=cloud, mode="prefer_in_cloud") as router:
        for _ in range(2):
            router.generate(CANARY, **OPTIONS)
    until(lambda: len(trace_ids()) == 2)
    wholes = [span for span in watched.traced.spans if span.parent is None]
    assert trace_ids() == [format_trace_id(span.context.trace_id) for span in wholes]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_parent_is_the_apps_span(
    exact_folder: Path, watched: Watched, asynchronous: bool
) -> None:
    """Also where the work is done in another thread."""
    tracer = watched.traced.provider.get_tracer("app")
    with (
        watched.router(exact_folder) as router,
        tracer.start_as_current_span("answering") as outer,
    ):
        if asynchronous:
            asyncio.run(router.agenerate(CANARY, **OPTIONS))
        else:
            router.generate(CANARY, **OPTIONS)
    _, whole, _ = watched.traced.spans
    assert whole.parent.span_id == outer.get_span_context().span_id


def test_a_cloud_that_is_not_there(exact_folder: Path, watched: Watched) -> None:
    """A failed attempt, a fallback, and a whole answer."""
    with watched.router(exact_folder, cloud=NOWHERE, mode="prefer_in_cloud") as router:
        generation = router.generate(CANARY, **OPTIONS)
        assert_says_nothing_of(watched, router, generation)
    assert watched.count("attempts_total", source="in_cloud", outcome="failed") == 1
    assert watched.count("fallbacks_total", **{"from": "in_cloud", "why": "failed"}) == 1
    assert watched.count("requests_total", finish_reason="length") == 1
    failed, _, whole = watched.traced.spans
    assert failed.attributes["error.type"] == "CloudUnavailableError"
    assert [event.name for event in whole.events] == ["decided", "handed over", "decided"]


class Quoting(pb_grpc.GeneratorServicer):
    """A cloud that repeats the prompt in what it says of its errors."""

    def __init__(self, vocabulary: str) -> None:
        self._vocabulary = vocabulary

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> object:
        return pb.GetModelResponse(
            name="quoting", vocabulary=self._vocabulary, vocabulary_size=264, context_window=192
        )

    def Generate(self, request: pb.GenerateRequest, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{list(request.token_ids)}: {CANARY}")


def test_a_cloud_that_quotes_the_prompt(exact_folder: Path, watched: Watched) -> None:
    """What it says goes nowhere but to the caller."""
    server = grpc.server(ThreadPoolExecutor(2))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    with watched.router(exact_folder, cloud=address, mode="prefer_in_cloud") as router:
        servicer = Quoting(router.device_source.tokenizer.fingerprint)
        pb_grpc.add_GeneratorServicer_to_server(servicer, server)
        server.start()
        generation = router.generate(CANARY, **OPTIONS)
        with pytest.raises(NoSourceError, match=CANARY):
            router.generate(CANARY, mode="only_in_cloud", **OPTIONS)
        assert_says_nothing_of(watched, router, generation)
    server.stop(None).wait()
    assert watched.count("attempts_total", source="in_cloud", outcome="failed") == 2
    assert watched.count("requests_total", finish_reason="error") == 1


@pytest.mark.parametrize("privacy", ["private", "allow_cloud"])
def test_a_refusal(exact_folder: Path, watched: Watched, privacy: str) -> None:
    """Counted by both vetoes, and traced as an error unless it is private."""
    with watched.router(exact_folder) as router:
        with pytest.raises(NoSourceError):
            router.generate(CANARY, mode="only_in_cloud", privacy=privacy)
        assert_says_nothing_of(watched, router, None)
    veto = "private" if privacy == "private" else "no_address"
    assert watched.count("refusals_total", source="on_device", veto="mode") == 1
    assert watched.count("refusals_total", source="in_cloud", veto=veto) == 1
    errors = [span.attributes["error.type"] for span in watched.traced.spans]
    assert errors == ([] if privacy == "private" else ["NoSourceError"])
