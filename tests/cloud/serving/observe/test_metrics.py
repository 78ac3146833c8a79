"""The metrics of a real service, as Prometheus scrapes them."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.observe.observers import ObserverSettings
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import CANARY, ask, generation, shows, until
from tests.support.service import Running, serving

METRICS = ObserverSettings(metrics_port=0)


@pytest.fixture
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), queue=1, observers=METRICS) as running:
        yield running


def scrape(running: Running) -> str:
    port = running.server.observers.metrics_port
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


def samples(running: Running) -> dict[str, float]:
    """By name and label values, joined by slashes."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(scrape(running))
        for sample in family.samples
    }


def test_metrics_add_up(service: Running) -> None:
    """Requests by code, tokens in and out, and each histogram once per request."""
    before = samples(service)
    assert before["edgewise_requests_total/OK"] == 0
    assert before["edgewise_slots"] == 2
    model = service.server.handler.engines[0].model
    assert before[f"edgewise_model_info/keras/{model.name}/{model.revision}"] == 1
    for _ in range(3):
        ask(service.address)
    with pytest.raises(grpc.RpcError):
        ask(service.address, max_tokens=0)
    until(lambda: samples(service)["edgewise_e2e_request_latency_seconds_count"] == 4)
    after = samples(service)
    assert after["edgewise_requests_total/OK"] == 3
    assert after["edgewise_requests_total/INVALID_ARGUMENT"] == 1
    assert after["edgewise_prompt_tokens_total"] == 3 * len(CANARY)
    assert 0 <= after["edgewise_prefix_cache_hit_tokens_total"] < 3 * len(CANARY)
    assert after["edgewise_generation_tokens_total"] == 3 * 8
    assert after["edgewise_time_to_first_token_seconds_count"] == 3
    assert after["edgewise_request_queue_time_seconds_count"] == 3
    assert after["edgewise_inter_token_latency_seconds_count"] == 3 * 7
    assert (
        0
        < after["edgewise_time_to_first_token_seconds_sum"]
        < after["edgewise_e2e_request_latency_seconds_sum"]
    )
    assert after["process_resident_memory_bytes"] > 1e6


def test_running_and_waiting_requests_are_counted(service: Running, vocabulary: str) -> None:
    """As they are at each scrape."""

    def counts() -> tuple[float, float]:
        scraped = samples(service)
        names = ("edgewise_num_requests_running", "edgewise_num_requests_waiting")
        return scraped[names[0]], scraped[names[1]]

    with (
        service.on_engine.gated() as gate,
        grpc.insecure_channel(service.address) as channel,
    ):
        assert counts() == (0, 0)
        gate.close()
        stub = pb_grpc.GeneratorStub(channel)
        calls = [stub.Generate(generation(vocabulary)) for _ in range(3)]
        until(lambda: service.held == 3)
        service.on_engine.start_waiting(2)
        assert counts() == (2, 1)
        for call in calls:
            call.cancel()
        gate.open()
        until(lambda: counts() == (0, 0))


def test_gauges_are_zero_while_the_model_loads(exact_folder: Path) -> None:
    """Scrapes work from the start, and name no model yet."""
    with serving(str(exact_folder), load=False, observers=METRICS) as running:
        shown = samples(running)
        assert shown["edgewise_slots"] == shown["edgewise_num_requests_running"] == 0
        assert not any(name.startswith("edgewise_model_info") for name in shown)


def test_metrics_are_off_by_default(exact_folder: Path) -> None:
    """No port is opened."""
    with serving(str(exact_folder), load=False) as running:
        assert running.server.observers.metrics_port is None


def test_draining_closes_the_port(exact_folder: Path) -> None:
    """Another program can open it then."""
    with serving(str(exact_folder), load=False, observers=METRICS) as running:
        port = running.server.observers.metrics_port
        running.stop()
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "no such host", "x" * 300])
def test_an_unusable_address_is_an_error(exact_folder: Path, host: str) -> None:
    """A port in use, or an invalid host: one sentence at the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ObserverSettings(metrics_host=host, metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(ServeError, match=r"cannot show metrics .* --metrics-port"),
            serving(str(exact_folder), load=False, observers=settings),
        ):
            pass


def test_no_token_is_in_the_metrics(service: Running) -> None:
    """Neither of the prompt nor of the answer."""
    answer = ask(service.address)
    until(lambda: samples(service)["edgewise_requests_total/OK"] == 1)
    text = scrape(service)
    assert shows(str(list(CANARY)), CANARY)  # the search finds them where they are
    assert not shows(text, CANARY)
    assert not shows(text, answer)
