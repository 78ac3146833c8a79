"""The service on Ray Serve: two nodes behind one address."""

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise import CloudTimeouts, DeviceState, Generation, LatencyLog, Router, Source, VetoCode
from edgewise_cloud.serving.server.server import SERVICE
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import generation
from tests.support.ray_cluster import QUEUE, SLOTS, TwoNodes, on_two_nodes
from tests.support.service import serving

pytestmark = pytest.mark.soak  # a cluster starts for a minute

PROMPT = "in the winter the water was"
GREEDY = {"temperature": 0.0, "max_tokens": 100}


@pytest.fixture(scope="module")
def two_nodes(exact_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    log = tmp_path_factory.mktemp("ray") / "log"
    with on_two_nodes(exact_folder, port, log) as running:
        yield running


@pytest.fixture(scope="module")
def channel(two_nodes: TwoNodes) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(two_nodes.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def many(channel: grpc.Channel) -> pb_grpc.GeneratorStub:
    return pb_grpc.GeneratorStub(channel)


@pytest.fixture(scope="module")
def single(exact_folder: Path) -> Iterator[pb_grpc.GeneratorStub]:
    with (
        serving(str(exact_folder), slots=SLOTS, queue=QUEUE) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        yield pb_grpc.GeneratorStub(channel)


def router_to(address: str | None, folder: Path, mode: str) -> Router:
    return Router(
        folder,
        cloud=address,
        cloud_timeouts=CloudTimeouts(connect=300.0, first_token=300.0, between_tokens=30.0),
        mode=mode,
        device=DeviceState,
        latency=LatencyLog(),
        threads=1,
    )


@pytest.fixture(scope="module")
def vocabulary(exact_model: DeviceModel) -> str:
    return exact_model.tokenizer.fingerprint


def test_it_answers_as_a_single_server_does(
    many: pb_grpc.GeneratorStub, single: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """The same model, the same messages, and the load of two."""
    assert many.GetModel(pb.GetModelRequest()) == single.GetModel(pb.GetModelRequest())
    load = many.GetLoad(pb.GetLoadRequest())
    assert (load.slots, load.queue) == (2 * SLOTS, 2 * QUEUE)
    answers = [list(stub.Generate(generation(vocabulary))) for stub in (many, single)]
    for answer in answers:
        assert answer[-1].timings.total > 0
        for response in answer:
            response.ClearField("timings")
    assert answers[0] == answers[1]
    score = pb.ScoreRequest(token_ids=range(100), top=5, vocabulary=vocabulary)
    assert list(many.Score(score)) == list(single.Score(score))


@pytest.mark.parametrize(
    "changes",
    [
        {"max_tokens": 0},
        {"max_tokens": 2**31 - 1},
        {"token_ids": []},
        {"token_ids": [1, 2, 3, 10**6]},
        {"sampling": None},
        {"vocabulary": "0" * 64},
    ],
)
def test_invalid_requests_are_refused_in_the_same_way(
    many: pb_grpc.GeneratorStub,
    single: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
) -> None:
    """With the same code and message."""
    refusals = []
    for stub in (many, single):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(generation(vocabulary, **changes)))
        refusals.append((error.value.code(), error.value.details()))
    assert refusals[0] == refusals[1]


def test_a_request_that_is_too_large_reaches_no_replica(
    many: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """With the code of a single server; Serve's own proxy would allow 2 GB."""
    with pytest.raises(grpc.RpcError, match="larger than") as error:
        list(many.Generate(generation(vocabulary, token_ids=[1] * 400_000)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_full_cluster_says_when_to_retry(many: pb_grpc.GeneratorStub, vocabulary: str) -> None:
    """What exceeds both replicas waits at the proxy; what exceeds the proxy is refused."""
    calls = [many.Generate(generation(vocabulary, max_tokens=180)) for _ in range(100)]
    refused = []
    for call in calls:
        try:
            assert len(list(call)) == 181
        except grpc.RpcError as error:
            refused.append(error)
    assert 0 < len(refused) <= 100 - 2 * (SLOTS + QUEUE)
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    details = dict(refused[0].trailing_metadata())["grpc-status-details-bin"]
    retry = RetryInfo()
    assert Status.FromString(details).details[0].Unpack(retry)
    assert retry.retry_delay.seconds > 0


def test_health(channel: grpc.Channel) -> None:
    """For the proxy as a whole and for the service by name."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_killing_a_node_under_load_loses_nothing(two_nodes: TwoNodes, exact_folder: Path) -> None:
    """Requests without a token yet are answered by the other node, broken streams by the device.

    Those end with UNAVAILABLE; every answer is that of an unbroken run.
    """
    with router_to(None, exact_folder, "only_on_device") as alone:
        unbroken = alone.generate(PROMPT, **GREEDY)
    begun = threading.Semaphore(0)

    def ask(_: int) -> Generation:
        with (
            router_to(two_nodes.address, exact_folder, "prefer_in_cloud") as router,
            router.stream(PROMPT, **GREEDY) as stream,
        ):
            next(stream)
            begun.release()
            for _chunk in stream:
                pass
            return stream.generation

    with ThreadPoolExecutor(16) as pool:
        asked = pool.map(ask, range(16))
        for _ in range(2 * SLOTS):  # both nodes generate, and the other requests wait
            begun.acquire()
        two_nodes.kill_one()
        generations = list(asked)

    assert [generation.token_ids for generation in generations] == 16 * [unbroken.token_ids]
    broken = [generation for generation in generations if len(generation.segments) > 1]
    assert 0 < len(broken) < 16
    for answer in broken:
        first, second = answer.segments
        assert (first.source, second.source) == (Source.IN_CLOUD, Source.ON_DEVICE)
        assert first.tokens > 0
        veto = answer.decision.vetoes[Source.IN_CLOUD]
        # Where the proxy does not see the connection to the node end, the stream stalls.
        stalled = veto.code is VetoCode.STALLED or "sent no token" in veto.detail
        assert "UNAVAILABLE" in veto.detail or stalled
    whole = [generation for generation in generations if len(generation.segments) == 1]
    assert {generation.source for generation in whole} == {Source.IN_CLOUD}
    with router_to(two_nodes.address, exact_folder, "only_in_cloud") as router:
        assert router.generate(PROMPT, **GREEDY).token_ids == unbroken.token_ids
