"""The service on Ray Serve: two nodes behind one address, as a router sees them."""

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

from edgewise import DeviceState, Generation, LatencyLog, Router, Source, VetoCode
from edgewise_cloud.serving.server.server import SERVICE
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.asking import generation
from tests.serving import serving
from tests.support.ray_cluster import QUEUE, SLOTS, TwoNodes, on_two_nodes

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
        folder, cloud=address, mode=mode, device=DeviceState, latency=LatencyLog(), threads=1
    )


@pytest.fixture(scope="module")
def vocabulary(exact_model: DeviceModel) -> str:
    return exact_model.tokenizer.fingerprint


def test_it_is_the_service_a_single_server_is(
    many: pb_grpc.GeneratorStub, single: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """The same model, the same messages, the same load but for twice the room."""
    assert many.GetModel(pb.GetModelRequest()) == single.GetModel(pb.GetModelRequest())
    load = many.GetLoad(pb.GetLoadRequest())
    assert (load.slots, load.queue) == (2 * SLOTS, 2 * QUEUE)
    answers = [list(stub.Generate(generation(vocabulary))) for stub in (many, single)]
    for answer in answers:
        assert answer[-1].timings.total > 0
        for response in answer:
            response.ClearField("timings")
    assert answers[0] == answers[1]


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
def test_bad_requests_are_refused_alike(
    many: pb_grpc.GeneratorStub,
    single: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
) -> None:
    """With the same code and the same sentence."""
    refusals = []
    for stub in (many, single):
        with pytest.raises(grpc.RpcError) as error:
            list(stub.Generate(generation(vocabulary, **changes)))
        refusals.append((error.value.code(), error.value.details()))
    assert refusals[0] == refusals[1]


def test_a_request_too_large_goes_to_no_replica(
    many: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """The code is that of a single server; Serve's own proxy would let 2 GB through."""
    with pytest.raises(grpc.RpcError, match="larger than") as error:
        list(many.Generate(generation(vocabulary, token_ids=[1] * 400_000)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_full_cluster_says_when_to_come_back(
    many: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """What neither replica has room for waits at the proxy, and what that has no room for goes."""
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
    """For the whole proxy and for the service by name."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_node_killed_under_load_loses_nothing(two_nodes: TwoNodes, exact_folder: Path) -> None:
    """Requests without an answer yet are answered by the other node, streams cut off by the device.

    Those end with UNAVAILABLE; all come to what an unbroken run comes to.
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
        for _ in range(2 * SLOTS):  # both nodes are at work, and the other half waits
            begun.acquire()
        two_nodes.kill_one()
        generations = list(asked)

    assert [generation.token_ids for generation in generations] == 16 * [unbroken.token_ids]
    cut = [written for written in generations if len(written.segments) > 1]
    assert 0 < len(cut) < 16
    for written in cut:
        first, second = written.segments
        assert (first.source, second.source) == (Source.IN_CLOUD, Source.ON_DEVICE)
        assert first.tokens > 0
        left = written.decision.vetoes[Source.IN_CLOUD]
        # Where the connection to the node is not seen to end, its silence is.
        assert "UNAVAILABLE" in left.detail or left.code is VetoCode.STALLED
    whole = [generation for generation in generations if len(generation.segments) == 1]
    assert {generation.source for generation in whole} == {Source.IN_CLOUD}
    with router_to(two_nodes.address, exact_folder, "only_in_cloud") as router:
        assert router.generate(PROMPT, **GREEDY).token_ids == unbroken.token_ids
