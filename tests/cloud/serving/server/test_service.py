"""The service over a real socket."""

import threading
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.server.server import SERVICE
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.conftest import token_request
from tests.support.generate_requests import PROMPT, generation, received_tokens
from tests.support.service import Running, serving


def test_it_streams_the_tokens_one_by_one(
    stub: pb_grpc.GeneratorStub, vocabulary: str, exact_model: DeviceModel
) -> None:
    """With positions and the queue time; the last message has the reason, usage and timings."""
    *tokens, last = stub.Generate(generation(vocabulary))
    expected = exact_model.stream_tokens(token_request(PROMPT, 20, temperature=0))
    assert [token.token_ids[0] for token in tokens] == list(expected)
    assert [token.position for token in tokens] == list(range(4, 24))
    assert last.finish_reason == pb.FINISH_REASON_LENGTH
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 20)
    assert [token.HasField("timings") for token in tokens] == [True] + 19 * [False]
    assert 0 <= tokens[0].timings.queued == last.timings.queued
    assert 0 < last.timings.time_to_first_token <= last.timings.total


def test_it_continues_where_another_stopped(stub: pb_grpc.GeneratorStub, vocabulary: str) -> None:
    """A request with tokens already generated continues them, and counts them in its usage."""
    *whole, _ = stub.Generate(generation(vocabulary))
    ids = [token.token_ids[0] for token in whole]
    *rest, last = stub.Generate(
        generation(vocabulary, token_ids=[*PROMPT, *ids[:7]], max_tokens=13)
    )
    assert [token.token_ids[0] for token in rest] == ids[7:]
    assert rest[0].position == 11
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 20)


def test_an_end_token_ends_it(stub: pb_grpc.GeneratorStub, vocabulary: str) -> None:
    """It is sent, and the reason is STOP."""
    *whole, _ = stub.Generate(generation(vocabulary))
    end = whole[3].token_ids[0]
    *tokens, last = stub.Generate(generation(vocabulary, end_token_ids=[end]))
    assert tokens[-1].token_ids[0] == end
    assert last.finish_reason == pb.FINISH_REASON_STOP


def test_several_clients_at_once_are_served_correctly(
    stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """Three at a time (two slots, one waits) get the same tokens as one at a time."""
    prompts = [[n, 2 * n, 3 * n] for n in (3, 20, 50)]

    def ask(prompt: list[int]) -> list[int]:
        return received_tokens(
            stub.Generate(generation(vocabulary, token_ids=prompt, prompt_tokens=3))
        )

    alone = [ask(prompt) for prompt in prompts]
    together: dict[int, list[int]] = {}
    threads = [
        threading.Thread(target=lambda n=n: together.update({n: ask(prompts[n])})) for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[n] for n in range(3)] == alone


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"max_tokens": 0}, grpc.StatusCode.INVALID_ARGUMENT, "max_tokens is 0"),
        ({"max_tokens": 2**31 - 1}, grpc.StatusCode.INVALID_ARGUMENT, "context window"),
        ({"token_ids": []}, grpc.StatusCode.INVALID_ARGUMENT, "prompt_tokens"),
        ({"prompt_tokens": 9}, grpc.StatusCode.INVALID_ARGUMENT, "prompt_tokens"),
        ({"token_ids": [1, 2, 3, 10**6]}, grpc.StatusCode.INVALID_ARGUMENT, "vocabulary"),
        ({"sampling": None}, grpc.StatusCode.INVALID_ARGUMENT, "sampling"),
        (
            {"sampling": pb.Sampling(temperature=float("nan"), top_p=1, repetition_penalty=1)},
            grpc.StatusCode.INVALID_ARGUMENT,
            "temperature",
        ),
        ({"vocabulary": "0" * 64}, grpc.StatusCode.FAILED_PRECONDITION, "same model"),
        ({"token_ids": [1] * 400_000}, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger"),
    ],
)
def test_bad_requests_are_refused(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
    code: grpc.StatusCode,
    words: str,
) -> None:
    """Before any work, with a code for programs and a sentence for people."""
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary, **changes)))
    assert error.value.code() is code
    assert words in error.value.details()


def test_health_and_reflection(channel: grpc.Channel) -> None:
    """For the whole server and for the service by name; reflection lists it."""
    health = health_pb2_grpc.HealthStub(channel)
    for name in ("", SERVICE):
        answer = health.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (listing,) = reflection.ServerReflectionInfo(iter([request]))
    assert SERVICE in {listed.name for listed in listing.list_services_response.service}


def test_while_loading_it_is_unavailable(exact_folder: Path) -> None:
    """It listens, says NOT_SERVING, and refuses work."""
    with (
        serving(str(exact_folder), load=False) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as error:
            pb_grpc.GeneratorStub(channel).GetModel(pb.GetModelRequest())
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_other_addresses_than_loopback_are_refused(exact_folder: Path, host: str) -> None:
    """Without TLS and tokens."""
    with (
        pytest.raises(ServeError, match="loopback"),
        serving(str(exact_folder), load=False, host=host),
    ):
        pass


def test_a_port_in_use_is_an_error(service: Running, exact_folder: Path) -> None:
    """Not a second server that shares it."""
    port = int(service.address.rpartition(":")[2])
    with (
        pytest.raises(ServeError, match="another program"),
        serving(str(exact_folder), load=False, port=port),
    ):
        pass
