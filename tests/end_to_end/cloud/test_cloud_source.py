"""What the router concludes from a cloud's behaviour: which failures count, and what it learns."""

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat
from operator import attrgetter
from pathlib import Path

import pytest

from edgewise import CloudTimeouts, DeviceState, LatencyLog, NoSourceError, Router, Source
from edgewise.cloud.circuit_breaker import Circuit
from edgewise.cloud.client import CloudClient
from edgewise.cloud.config import CloudSecurity
from edgewise.errors import CloudUnavailableError
from edgewise.generation.attempt import StopSignal
from edgewise_edge import DeviceModel, FinishReason
from edgewise_proto import generation_pb2 as pb
from tests.support.garbage_collection import collect_within
from tests.support.network.fault_proxy import fault_proxy
from tests.support.scripted_cloud import (
    Answers,
    ScriptedCloud,
    ended,
    scripted,
    serving_scripted,
    tokens,
)
from tests.support.timeouts import PATIENT

PROMPT = "abc"  # three tokens
NEVER = 3600.0  # seconds


def router_to(address: str, folder: Path, **settings: object) -> Router:
    given = {"mode": "prefer_in_cloud", "cloud_timeouts": PATIENT, **settings}
    return Router(
        folder, cloud=address, device=DeviceState, latency=LatencyLog(), threads=1, **given
    )


def test_time_that_the_reader_spent_is_not_the_cloud_failing(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """A budget that is spent before the text is read opens no circuit, and the cloud is used."""
    answers = [tokens(3, 10), tokens(4, 11), ended(5, prompt=3, completion=2)]
    with (
        scripted(exact_model, answers) as address,
        router_to(address, exact_folder) as router,
    ):
        for _ in range(3):
            with router.stream(PROMPT, max_tokens=2, latency_budget=0.05) as stream:
                time.sleep(0.1)
                assert stream.decision.source is Source.IN_CLOUD
                list(stream)
                assert stream.generation.token_ids == (10, 11)
        assert router.cloud_source.breaker.state is Circuit.CLOSED


def test_a_reader_who_pauses_is_not_a_stall(exact_folder: Path, exact_model: DeviceModel) -> None:
    """The timeout between tokens does not include the reader's own time."""
    paused = threading.Event()

    def answers() -> Iterator[pb.GenerateResponse]:
        yield tokens(3, 10)
        paused.wait()
        yield tokens(4, 11)
        yield ended(5, prompt=3, completion=2)

    with (
        scripted(exact_model, answers()) as address,
        router_to(
            address, exact_folder, cloud_timeouts=replace(PATIENT, between_tokens=0.5)
        ) as router,
        router.stream(PROMPT, max_tokens=2) as stream,
    ):
        next(stream)
        time.sleep(0.9)
        paused.set()
        list(stream)
    assert [part.source for part in stream.generation.segments] == [Source.IN_CLOUD]


def queued(seconds: float, answers: Answers, folder: Path, model: DeviceModel) -> list[float]:
    """The time in the queue that is learned, and the time to the first token."""
    answers[0].timings.queued = seconds
    with scripted(model, answers) as address, router_to(address, folder) as router:
        generation = router.generate(PROMPT, max_tokens=2)
        assert generation.source is Source.IN_CLOUD
        (learned,) = router.latency.measured(router.cloud_source.key)
    return [learned.queued, learned.first_token]


def test_the_time_in_the_queue_is_learned(exact_folder: Path, exact_model: DeviceModel) -> None:
    """With the first token: a complete answer does not wait for the last message."""
    found, _ = queued(1e-6, [tokens(3, 10), tokens(4, 11)], exact_folder, exact_model)
    assert found == pytest.approx(1e-6)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_an_impossible_time_in_the_queue_is_dropped(
    exact_folder: Path, exact_model: DeviceModel, seconds: float
) -> None:
    """Cut to all of the wait, it would make the cloud one that answers at once."""
    found, _ = queued(seconds, [tokens(3, 10), tokens(4, 11)], exact_folder, exact_model)
    assert found == 0


def test_the_reported_load_expires(exact_folder: Path, exact_model: DeviceModel) -> None:
    """It is not used when it is old, or when the next GetLoad failed."""
    cloud = ScriptedCloud(exact_model, [tokens(3, 10)])
    cloud.expected_wait = 77.0
    with serving_scripted(cloud) as address, router_to(address, exact_folder) as router:
        assert router.generate(PROMPT, max_tokens=1).source is Source.IN_CLOUD
        cloud_source = router.cloud_source

        def first_token() -> float:
            return cloud_source.predict(position=3, max_tokens=1).first_token

        cloud_source.read_load()
        assert first_token() >= 77
        cloud_source.load_read_at -= 60  # seconds
        assert first_token() < 77

        def broken(*_: object) -> None:
            raise CloudUnavailableError("made to fail")

        cloud_source.client.get_load = broken
        cloud_source.refresh_now()  # which puts off the next question
        assert first_token() < 77


def test_closing_a_stream_ends_the_wait_for_get_model(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """The reader returns, the device does not start, and the cloud has not failed."""
    cloud = ScriptedCloud(exact_model)
    cloud.ready.clear()
    with (
        serving_scripted(cloud) as address,
        router_to(address, exact_folder, cloud_timeouts=CloudTimeouts(connect=NEVER)) as router,
    ):
        stream = router.stream(PROMPT, max_tokens=2)
        reader = threading.Thread(target=lambda: list(stream), daemon=True)
        reader.start()
        cloud.asked.wait()
        stream.close()
        reader.join()
        assert stream.generation.finish_reason is FinishReason.CANCELLED
        assert not router.availability().loaded
        assert router.cloud_source.breaker.failures == 0


def test_a_budget_ends_the_wait_for_get_model(exact_folder: Path, exact_model: DeviceModel) -> None:
    """The device answers, and a short budget is not the cloud's failure."""
    cloud = ScriptedCloud(exact_model)
    cloud.ready.clear()
    with (
        serving_scripted(cloud) as address,
        router_to(address, exact_folder, cloud_timeouts=CloudTimeouts(connect=NEVER)) as router,
    ):
        generation = router.generate(PROMPT, max_tokens=2, latency_budget=0.3)
        assert cloud.asked.is_set()
        assert [part.source for part in generation.segments] == [Source.ON_DEVICE]
        assert router.cloud_source.breaker.failures == 0


def test_an_interrupted_trial_lets_another_request_try(exact_folder: Path) -> None:
    """Otherwise the permit would be lost, and no request would use the cloud again."""
    with router_to("127.0.0.1:9", exact_folder) as router:
        cloud_source = router.cloud_source
        for _ in range(3):
            cloud_source.breaker.failed()
        cloud_source.breaker.allow_trial()

        def interrupted(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        cloud_source.client.model = interrupted
        with pytest.raises(KeyboardInterrupt):
            router.generate(PROMPT, max_tokens=2)
        assert cloud_source.breaker.state is Circuit.HALF_OPEN
        assert not cloud_source.breaker.open


def test_a_request_during_a_trial_is_refused(exact_folder: Path) -> None:
    """Its decision may be older than the trial; that is no failure of the cloud."""
    with router_to("127.0.0.1:9", exact_folder, mode="only_in_cloud") as router:
        stream, breaker = router.stream(PROMPT), router.cloud_source.breaker
        for _ in range(3):
            breaker.failed()
        breaker.allow_trial()
        assert breaker.acquire()
        with pytest.raises(NoSourceError, match="another request is trying it"):
            list(stream)
        assert breaker.failures == 3


@pytest.mark.parametrize("part", ["breaker.lock", "client.lock"])
def test_a_stream_may_be_collected_while_a_lock_is_held(
    exact_folder: Path, exact_model: DeviceModel, part: str
) -> None:
    """The cycle collector runs in any thread at any time, also in one that holds a lock."""
    with scripted(exact_model, [tokens(3, 10), tokens(4, 11)]) as address:
        router = router_to(address, exact_folder)
        streams = [router.stream(PROMPT, max_tokens=9)]
        assert next(streams[0]).source is Source.IN_CLOUD
        assert collect_within(attrgetter(part)(router.cloud_source), streams)
        router.close()


def test_closing_ends_calls_on_a_connection_that_failed_before(exact_model: DeviceModel) -> None:
    """They may continue after another call has failed, but not after the router is closed."""
    with scripted(exact_model, repeat(tokens(3, 10))) as address:
        connection = CloudClient(address, CloudSecurity())

        def read() -> None:
            with connection.generate(pb.GenerateRequest(), None, (), StopSignal()) as call:
                next(call)
                connection.reconnect()
                next(call)
                connection.close()
                for _ in islice(call, 100_000):
                    pass

        with pytest.raises(CloudUnavailableError):
            read()


def test_a_connection_that_the_network_lost_is_replaced(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """A request that only the cloud may answer is sent once more, on a new connection."""
    timeouts = CloudTimeouts(connect=300.0, first_token=0.5, between_tokens=300.0)
    with (
        scripted(exact_model, repeat(tokens(3, 10))) as address,
        fault_proxy(address) as proxy,
        router_to(
            proxy.address, exact_folder, mode="only_in_cloud", cloud_timeouts=timeouts
        ) as router,
    ):
        assert router.generate(PROMPT, max_tokens=1).token_ids == (10,)
        proxy.stall()
        with pytest.raises(CloudUnavailableError):  # from now on this connection is dead
            router.cloud_source.client.get_load("", 0.2)
        proxy.heal()
        assert router.generate(PROMPT, max_tokens=1).token_ids == (10,)
        assert proxy.connections == 2
        assert router.cloud_source.breaker.failures == 0


def test_a_new_connection_that_fails_is_not_tried_again(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """It proves that the cloud is not there: one request is one failure."""
    cloud = ScriptedCloud(exact_model)
    with serving_scripted(cloud) as address, router_to(address, exact_folder) as router:
        assert router.generate(PROMPT, max_tokens=2).source is Source.ON_DEVICE
        assert len(cloud.requests) == 1
        assert router.cloud_source.breaker.failures == 1
        assert router.cloud_source.served_model is None  # it goes with its connection


def test_another_revision_is_noticed(
    exact_folder: Path, exact_model: DeviceModel, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where gRPC reconnected without a failure: it is read again with the load.

    What was measured of the former one predicts nothing any more.
    """
    cloud = ScriptedCloud(exact_model, [tokens(3, 10)])
    cloud.revision = "1"
    with serving_scripted(cloud) as address, router_to(address, exact_folder) as router:
        assert router.generate(PROMPT, max_tokens=1).source is Source.IN_CLOUD
        assert router.cloud_source.predict(3, 1).first_token is not None
        cloud.revision = "2"
        router.cloud_source.refresh_now()
        assert router.cloud_source.served_model.revision == "2"
        assert router.cloud_source.predict(3, 1).first_token is None
        assert "scripted@2 (before: scripted@1), context window" in router.describe_cloud()
    assert f"{address} now serves 'scripted@2' instead of 'scripted@1'" in caplog.text


def test_a_stall_is_learned_as_a_lower_bound(exact_folder: Path, exact_model: DeviceModel) -> None:
    """Otherwise only the fast answers would be known."""
    silent = repeat(pb.GenerateResponse(position=3))
    timeouts = replace(PATIENT, first_token=0.3)
    with (
        scripted(exact_model, silent) as address,
        router_to(address, exact_folder, cloud_timeouts=timeouts) as router,
    ):
        assert router.generate(PROMPT, max_tokens=2).source is Source.ON_DEVICE
        (bound,) = router.latency.measured(router.cloud_source.key)
        assert not bound.complete
        assert router.cloud_source.predict(3, 1).first_token >= 0.3


def test_a_default_of_max_tokens_is_cut_to_the_service_window(
    exact_folder: Path, exact_model: DeviceModel
) -> None:
    """The service is asked for what fits; the answer is complete with that."""
    window = exact_model.manifest.architecture.context_window
    prompt = next(
        text
        for length in range(1, 10 * window)
        if len(exact_model.tokenizer.encode(text := "z" * length)) == window - 2
    )
    cloud = ScriptedCloud(exact_model, [tokens(window - 2, 10), tokens(window - 1, 11)])
    with (
        serving_scripted(cloud) as address,
        router_to(address, exact_folder, mode="only_in_cloud") as router,
    ):
        generation = router.generate(prompt)
    assert generation.finish_reason is FinishReason.LENGTH
    assert generation.token_ids == (10, 11)
    assert [request.max_tokens for request in cloud.requests] == [2]
