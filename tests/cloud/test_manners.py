"""Manners under load: who waits, who is refused, and what becomes of those that leave."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_cloud.serving.server import service as service_module
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.asking import generation, until
from tests.raw_http2 import INITIAL_WINDOW_SIZE, Http2, call, grant, messages
from tests.serving import Running, serving
from tests.steps import Gate, gated

LONG = 180  # tokens


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), slots=2, queue=2) as running:
        yield running


@pytest.fixture(scope="module")
def stub(service: Running) -> Iterator[pb_grpc.GeneratorStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.GeneratorStub(channel)


@pytest.fixture(scope="module")
def vocabulary(exact_model: DeviceModel) -> str:
    return exact_model.tokenizer.fingerprint


@pytest.fixture
def gate(service: Running) -> Iterator[Gate]:
    """Before the steps of an idle service, which is idle again afterwards."""
    until(lambda: not service.held)
    with gated(service.server.answering.engine) as gate:
        yield gate
        gate.open()
        until(lambda: not service.held)


Ask = Callable[..., "grpc.UnaryStreamCall"]


@pytest.fixture
def ask(service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str) -> Iterator[Ask]:
    """Send a request of one token and return once the engine holds it; cancelled at the end."""
    calls = []

    def sent(token: int = 5, max_tokens: int = LONG, timeout: float | None = None) -> Any:
        before = service.held
        request = generation(vocabulary, token_ids=[token], prompt_tokens=1, max_tokens=max_tokens)
        calls.append(stub.Generate(request, timeout=timeout))
        until(lambda: service.held > before)
        return calls[-1]

    yield sent
    for one in calls:
        one.cancel()


def tokens(answer: "grpc.UnaryStreamCall") -> list[int]:
    return [token for response in answer for token in response.token_ids]


@pytest.fixture(scope="module")
def quiet(stub: pb_grpc.GeneratorStub, vocabulary: str) -> dict[int, list[int]]:
    """What follows each first token when nothing else goes on."""

    def alone(token: int) -> list[int]:
        request = generation(vocabulary, token_ids=[token], prompt_tokens=1, max_tokens=LONG)
        return tokens(stub.Generate(request))

    return {token: alone(token) for token in (5, 6, 7, 8, 9, 20)}


def two_running(ask: Ask, gate: Gate, max_tokens: int = LONG) -> list["grpc.UnaryStreamCall"]:
    """Streams that have begun, and stand still."""
    gate.close()
    calls = [ask(token, max_tokens) for token in (5, 6)]
    gate.let_pass(2)
    for one in calls:
        next(one)
    gate.wait()
    return calls


def test_a_refusal_waits_for_no_step(
    ask: Ask, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str, quiet: dict[int, list[int]]
) -> None:
    """It comes, and says when to come back, while the model stands still; the others are served."""
    calls = two_running(ask, gate) + [ask(token, 20) for token in (7, 8)]
    steps = gate.begun
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary)))
    assert gate.begun == steps
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.value.trailing_metadata())["grpc-status-details-bin"])
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() > 0
    gate.open()
    assert [len(tokens(one)) for one in calls[:2]] == [LONG - 1] * 2
    assert [tokens(one) for one in calls[2:]] == [quiet[n][:20] for n in (7, 8)]


def test_those_who_wait_are_served_in_order(
    ask: Ask, gate: Gate, service: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First come, first served; who cancels leaves the queue at once, without a step."""
    batch, begun = service.server.answering.engine._batch, []
    add = batch.add
    monkeypatch.setattr(batch, "add", lambda one: (begun.append(one.token_ids[0]), add(one))[1])
    running = two_running(ask, gate)
    begun.clear()
    waiting = [ask(token, 3) for token in (20, 21)]
    steps = gate.begun
    waiting[0].cancel()
    until(lambda: service.held == 3)
    waiting += [ask(22, 3)]
    assert gate.begun == steps
    for one in running:
        one.cancel()
    gate.open()
    assert [len(tokens(one)) for one in waiting[1:]] == [3, 3]
    assert begun == [21, 22]


def test_a_deadline_that_passes_in_the_queue_ends_the_waiting(
    ask: Ask, gate: Gate, service: Running
) -> None:
    """With DEADLINE_EXCEEDED, no work, and its place free for another."""
    two_running(ask, gate)
    steps = gate.begun
    late = ask(20, 3, timeout=0.3)
    with pytest.raises(grpc.RpcError) as error:
        list(late)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: service.held == 2)
    assert gate.begun == steps


def test_cancelling_frees_the_slot_within_one_step(ask: Ask, gate: Gate, service: Running) -> None:
    """The step in hand is its last; who waits takes its place in the next, and only these two pass."""
    leaves, _stays = two_running(ask, gate)
    waits = ask(20, 3)
    engine = service.server.answering.engine
    left = next(run for run in engine._running if run.request.token_ids == (5,))
    leaves.cancel()
    until(lambda: left.left)
    gate.let_pass(1)
    until(lambda: engine.load().waiting == 0)
    gate.let_pass(1)
    assert next(waits).token_ids


def test_who_stops_reading_holds_no_slot(
    service: Running, stub: pb_grpc.GeneratorStub, vocabulary: str, quiet: dict[int, list[int]]
) -> None:
    """The answers are made, the slots go to others, and all is there when it is read at last."""
    until(lambda: not service.held)
    request = generation(vocabulary, token_ids=[9], prompt_tokens=1, max_tokens=LONG)
    streams = (1, 3)
    with Http2(service.address, {INITIAL_WINDOW_SIZE: 0}) as stalled:
        stalled.send(*[call(stream, request.SerializeToString()) for stream in streams])
        other = generation(vocabulary, token_ids=[8], prompt_tokens=1, max_tokens=LONG)
        assert tokens(stub.Generate(other)) == quiet[8]
        until(lambda: not service.held)
        for stream in streams:
            stalled.send(grant(1 << 20, stream))
            *came, last = [
                pb.GenerateResponse.FromString(one) for one in messages(stalled.answer(stream))
            ]
            assert [one.token_ids[0] for one in came] == quiet[9]
            assert last.finish_reason == pb.FINISH_REASON_LENGTH


def test_an_answer_that_nobody_reads_is_not_kept_for_ever(
    service: Running, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its stream ends UNAVAILABLE, for whoever reads on after all."""
    until(lambda: not service.held)
    monkeypatch.setattr(service_module, "UNREAD", 0.2)
    ended: list[object] = []
    monkeypatch.setattr(service.server.answering, "_observer", Recorder(ended))
    request = generation(vocabulary, max_tokens=LONG).SerializeToString()
    with Http2(service.address, {INITIAL_WINDOW_SIZE: 100}) as stalled:
        stalled.send(call(1, request))
        until(lambda: ended)
        stalled.send(grant(1 << 20, 1))
        frames = stalled.answer(1)
    assert 0 < len(messages(frames)) < LONG
    assert b"grpc-status\x0214" in frames[-1].payload


@dataclasses.dataclass
class Recorder:
    """Keeps what ended."""

    outcomes: list[object]

    def token(self, gap: float | None) -> None:
        pass

    def ended(self, outcome: object) -> None:
        self.outcomes.append(outcome)


def test_one_caller_cannot_take_every_slot(
    ask: Ask,
    gate: Gate,
    service: Running,
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond its share it is refused, with RetryInfo, while another address is served."""
    engine = service.server.answering.engine
    settings = dataclasses.replace(engine._settings, per_caller=1)
    monkeypatch.setattr(engine, "_settings", settings)
    gate.close()
    ask()
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary)))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "share" in error.value.details()
    assert "grpc-status-details-bin" in dict(error.value.trailing_metadata())
    gate.open()
    with Http2(service.address, source="127.0.0.2") as other:
        other.send(call(1, generation(vocabulary).SerializeToString()))
        frames = other.answer(1)
    assert len(messages(frames)) == 21
    assert b"grpc-status\x010" in frames[-1].payload


def test_a_failing_step_fails_those_in_it_alone(
    ask: Ask,
    gate: Gate,
    service: Running,
    quiet: dict[int, list[int]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """INTERNAL for each, without a word of why; who waits then is served."""
    running = two_running(ask, gate)
    waits = ask(20, 20)
    step = gate._step

    def fails_once(*_: object) -> object:
        monkeypatch.setattr(gate, "_step", step)
        raise RuntimeError("secret of tensorflow/core")

    monkeypatch.setattr(gate, "_step", fails_once)
    gate.open()
    for one in running:
        with pytest.raises(grpc.RpcError) as error:
            list(one)
        assert error.value.code() is grpc.StatusCode.INTERNAL
        assert error.value.details() == "the model failed; see the service's log"
    assert tokens(waits) == quiet[20][:20]
    assert "a step of the model failed" in caplog.text
    assert "secret" not in caplog.text


def test_logits_that_are_no_numbers_end_their_text_alone(
    ask: Ask, gate: Gate, service: Running, quiet: dict[int, list[int]]
) -> None:
    """The other stream in the same step goes on, token for token."""
    bad, good = two_running(ask, gate, max_tokens=100)
    step, engine = gate._step, service.server.answering.engine

    def poisoned(*numbers: Any) -> Any:
        logits = np.array(step(*numbers))
        for run in engine._running:
            if run.request.token_ids == (5,):
                logits[run.text.slot.index] = np.nan
        return logits

    gate._step = poisoned
    gate.open()
    with pytest.raises(grpc.RpcError) as error:
        list(bad)
    assert error.value.code() is grpc.StatusCode.INTERNAL
    assert tokens(good) == quiet[6][1:100]


def test_what_outlasts_the_grace_period_ends_unavailable(
    exact_folder: Path, vocabulary: str
) -> None:
    """Running or waiting, read or not: so that its caller goes on elsewhere."""
    with (
        serving(str(exact_folder), slots=1, grace=0.3) as running,
        grpc.insecure_channel(running.address) as channel,
        gated(running.server.answering.engine) as gate,
        Http2(running.address, {INITIAL_WINDOW_SIZE: 0}) as stalled,
    ):
        request = generation(vocabulary, max_tokens=LONG)
        stalled.send(call(1, request.SerializeToString()))
        until(lambda: gate.begun)
        until(lambda: not running.held)
        gate.close()
        stub = pb_grpc.GeneratorStub(channel)
        calls = [stub.Generate(request) for _ in range(2)]
        until(lambda: running.held == 2)
        step = gate._step
        gate._step = lambda *numbers: (time.sleep(0.1), step(*numbers))[1]
        gate.open()
        running.stop()
        for one in calls:
            with pytest.raises(grpc.RpcError) as error:
                list(one)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error.value.details() == "the service is shutting down"


def test_sigterm_lets_all_that_was_taken_on_finish(
    exact_folder: Path, vocabulary: str, quiet: dict[int, list[int]]
) -> None:
    """NOT_SERVING first, new requests refused, all others answered, however many watch it; status 0."""
    process = subprocess.Popen(
        [
            Path(sys.executable).parent / "edgewise-cloud",
            *("serve", "--model", exact_folder, "--port", "0", "--slots", "1", "--grace", "600"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        address = process.stderr.readline().split()[-1]
        with grpc.insecure_channel(address) as channel:
            stub = pb_grpc.GeneratorStub(channel)
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            request = generation(vocabulary, token_ids=[5], prompt_tokens=1, max_tokens=LONG)
            calls = [stub.Generate(request) for _ in range(8)]
            until(lambda: stub.GetLoad(pb.GetLoadRequest()).waiting >= 5)
            process.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.RpcError) as error:
                list(stub.Generate(request))
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert [tokens(one) for one in calls] == [quiet[5]] * 8
        assert process.wait() == 0
    finally:
        process.kill()
        process.communicate()
