"""What Prometheus sees of a real service."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.observe.observers import ObservingSettings
from tests.asking import CANARY, ask, shows, until
from tests.serving import Running, serving

SHOWN = ObservingSettings(metrics_port=0)


@pytest.fixture
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2, queue=1, observing=SHOWN) as running:
        yield running


def scrape(running: Running) -> str:
    port = running.server.observing.metrics_port
    with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        return answer.read().decode()


def samples(running: Running) -> dict[str, float]:
    """By name; of those with labels, by name and labels' values."""
    return {
        "/".join([sample.name, *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(scrape(running))
        for sample in family.samples
    }


def test_they_add_up(service: Running) -> None:
    """Requests by code, tokens in and out, and one time of each kind for each request."""
    before = samples(service)
    assert before["edgewise_requests_total/OK"] == 0
    assert before["edgewise_slots"] == 2
    model = service.server.answering.engine.model
    assert before[f"edgewise_model_info/{model.name}/{model.revision}"] == 1
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


def test_running_and_waiting_are_those_of_now(
    service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the engine says at each scrape."""
    engine = service.server.answering.engine
    idle = samples(service)
    busy = replace(engine.load(), running=2, waiting=1)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "load", lambda: busy)
        shown = samples(service)
    for moment, load in ((idle, engine.load()), (shown, busy), (samples(service), engine.load())):
        assert moment["edgewise_num_requests_running"] == load.running
        assert moment["edgewise_num_requests_waiting"] == load.waiting


def test_while_the_model_loads_they_are_zero(exact_folder: Path) -> None:
    """A scrape answers from the start, and names no model yet."""
    with serving(str(exact_folder), load=False, observing=SHOWN) as running:
        shown = samples(running)
        assert shown["edgewise_slots"] == shown["edgewise_num_requests_running"] == 0
        assert not any(name.startswith("edgewise_model_info") for name in shown)


def test_they_are_off_unless_asked_for(exact_folder: Path) -> None:
    """No port, no thread."""
    with serving(str(exact_folder), load=False) as running:
        assert running.server.observing.metrics_port is None


def test_draining_closes_their_port(exact_folder: Path) -> None:
    """Another program can have it then."""
    with serving(str(exact_folder), load=False, observing=SHOWN) as running:
        port = running.server.observing.metrics_port
        running.stop()
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["127.0.0.1", "no such host", "x" * 300])
def test_a_place_that_cannot_be_had_is_an_error(exact_folder: Path, host: str) -> None:
    """A port in use, a host that is none: said in a sentence at the start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = ObservingSettings(metrics_host=host, metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(ServeError, match=r"cannot show metrics .* --metrics-port"),
            serving(str(exact_folder), load=False, observing=settings),
        ):
            pass


def test_no_token_is_shown(service: Running) -> None:
    """Neither the prompt nor the answer is in a metric."""
    answer = ask(service.address)
    until(lambda: samples(service)["edgewise_requests_total/OK"] == 1)
    text = scrape(service)
    assert shows(str(list(CANARY)), CANARY)  # as it would be found
    assert not shows(text, CANARY)
    assert not shows(text, answer)
