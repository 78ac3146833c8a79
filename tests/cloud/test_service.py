"""The service over a real socket."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.server.server import SERVICE
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.asking import PROMPT, generation
from tests.conftest import token_request
from tests.serving import Running, serving


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2, queue=1) as running:
        yield running


@pytest.fixture(scope="module")
def stub(service: Running) -> Iterator[pb_grpc.GeneratorStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.GeneratorStub(channel)


@pytest.fixture(scope="module")
def vocabulary(exact_model: DeviceModel) -> str:
    return exact_model.tokenizer.fingerprint


def test_it_streams_the_tokens_one_by_one(
    stub: pb_grpc.GeneratorStub, vocabulary: str, exact_model: DeviceModel
) -> None:
    """With their positions, the time in the queue, and at the end the reason and all the rest."""
    *tokens, last = stub.Generate(generation(vocabulary))
    expected = exact_model.stream_tokens(token_request(PROMPT, 20, temperature=0))
    assert [token.token_ids[0] for token in tokens] == list(expected)
    assert [token.position for token in tokens] == list(range(4, 24))
    assert last.finish_reason == pb.FINISH_REASON_LENGTH
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, 20)
    assert [token.HasField("timings") for token in tokens] == [True] + 19 * [False]
    assert 0 <= tokens[0].timings.queued == last.timings.queued
    assert 0 < last.timings.time_to_first_token <= last.timings.total


def test_it_goes_on_where_another_stopped(stub: pb_grpc.GeneratorStub, vocabulary: str) -> None:
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
    """Three at a time (two slots, one waiting) get what each gets alone."""
    prompts = [[n, 2 * n, 3 * n] for n in (3, 20, 50)]

    def ask(prompt: list[int]) -> list[int]:
        answer = stub.Generate(generation(vocabulary, token_ids=prompt, prompt_tokens=3))
        return [token for response in answer for token in response.token_ids]

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


def hold_slots(
    stub: pb_grpc.GeneratorStub, vocabulary: str, count: int
) -> list["grpc.UnaryStreamMultiCallable"]:
    """Long generations that have begun."""
    calls = [stub.Generate(generation(vocabulary, max_tokens=180)) for _ in range(count)]
    for call in calls:
        next(call)
    return calls


def wait_until_idle(service: Running) -> None:
    """Return when no slot is held; the test's timeout is the limit."""
    while service.held:
        time.sleep(0.01)


def test_a_full_service_refuses_at_once(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """Two run, one waits, the fourth is told when to come back."""
    wait_until_idle(service)
    calls = hold_slots(stub, vocabulary, 2)
    calls.append(stub.Generate(generation(vocabulary)))
    while service.held < 3:
        time.sleep(0.01)
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary)))
    for call in calls:
        call.cancel()
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]
    retry = RetryInfo()
    assert Status.FromString(details).details[0].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() > 0


def slowed(name: str, run: Any, steps: list[str]) -> Any:
    """`run`, but slow, and noted in `steps`."""

    def slow(*numbers: object) -> Any:
        steps.append(name)
        time.sleep(0.02)
        return run(*numbers)

    return slow


@pytest.fixture
def slow_steps(service: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Steps that take 20 ms longer, and a list of those that ran."""
    wait_until_idle(service)
    programs, steps = service.server.answering.engine._batch._programs, list[str]()
    for name in ("decode", "prefill"):
        monkeypatch.setattr(programs, name, slowed(name, getattr(programs, name), steps))
    yield steps
    wait_until_idle(service)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_nobody_waiting_means_nothing_running(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str, slow_steps: list[str], how: str
) -> None:
    """Cancelling, or the deadline, stops the computation and frees the slot."""
    end = {"end_token_ids": [0]}  # it might be quick: without, it would be refused at once
    timeout = 0.3 if how == "deadline" else None
    call = stub.Generate(generation(vocabulary, max_tokens=180, **end), timeout=timeout)
    next(call)
    if how == "cancel":
        call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    wait_until_idle(service)
    done = len(slow_steps)
    time.sleep(0.2)
    assert len(slow_steps) == done < 180


def test_a_call_cancelled_while_its_prompt_is_read_stops_reading(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str, slow_steps: list[str]
) -> None:
    """The slot is free after the chunk in hand."""
    prompt = [7, 8, 9] * 63
    fields = {"token_ids": prompt, "prompt_tokens": len(prompt), "max_tokens": 2}
    call = stub.Generate(generation(vocabulary, **fields))
    while not slow_steps:
        pass
    call.cancel()
    wait_until_idle(service)
    assert slow_steps[:3] != ["prefill"] * 3


def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str, slow_steps: list[str]
) -> None:
    """At once, not when it has passed."""
    list(stub.Generate(generation(vocabulary, max_tokens=60)))  # how long a step takes is known now
    slow_steps.clear()
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary, max_tokens=180), timeout=0.5))
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "this would take" in error.value.details()
    assert not slow_steps


def test_health_and_reflection(service: Running) -> None:
    """For the whole server and for the service by name; reflection lists it."""
    with grpc.insecure_channel(service.address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            answer = health.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = reflection.ServerReflectionInfo(iter([request]))
        names = {listed.name for listed in answer.list_services_response.service}
        assert SERVICE in names


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


def test_draining_lets_running_streams_finish(exact_folder: Path, vocabulary: str) -> None:
    """A stream that has begun is finished within the grace period."""
    with (
        serving(str(exact_folder), grace=30.0) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        (call,) = hold_slots(pb_grpc.GeneratorStub(channel), vocabulary, 1)
        stopper = threading.Thread(target=running.stop)
        stopper.start()
        *_, last = call
        stopper.join()
        assert last.finish_reason == pb.FINISH_REASON_LENGTH


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "example.org"])
def test_other_addresses_than_loopback_are_refused(exact_folder: Path, host: str) -> None:
    """Without TLS and tokens nobody else may reach it."""
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
