"""Cancelled calls and deadlines free their slots and their places in the queue."""

import time
from collections.abc import Callable

import grpc
import pytest

from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.gated_programs import Gate
from tests.support.generate_requests import LONG, generation, until
from tests.support.service import Running


@pytest.mark.parametrize("how", ["cancel", "deadline"])
def test_work_stops_when_the_caller_is_gone(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str, how: str
) -> None:
    """Cancelling, or the deadline, stops the computation and frees the slot."""
    gate.close()
    gate.let_pass(1)
    before = gate.arrived
    ended = len(service.outcomes)
    timeout = 2.0 if how == "deadline" else None
    call = stub.Generate(generation(vocabulary, max_tokens=LONG), timeout=timeout)
    next(call)
    if how == "cancel":
        call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    until(lambda: len(service.outcomes) > ended)
    gate.wait()
    gate.open()
    until(lambda: not service.held)
    steps = gate.arrived
    time.sleep(0.2)
    assert gate.arrived == steps
    assert steps == before + 2  # the one that was read, and the one at the gate


def test_cancelling_during_prefill_stops_it(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """The slot is free after the current chunks."""
    programs = service.programs
    programs.prefill_gate.close()
    chunks = programs.prefill_gate.arrived
    steps = gate.arrived
    prompt = [7, 8, 9] * 63
    fields = {"token_ids": prompt, "prompt_tokens": len(prompt), "max_tokens": 2}
    ended = len(service.outcomes)
    call = stub.Generate(generation(vocabulary, **fields))
    programs.prefill_gate.wait()
    call.cancel()
    until(lambda: len(service.outcomes) > ended)
    programs.prefill_gate.open()
    until(lambda: not service.held)
    assert programs.prefill_gate.arrived - chunks <= 2  # of three
    assert gate.arrived == steps


def test_a_deadline_that_cannot_be_met_is_refused_before_any_work(
    service: Running, gate: Gate, stub: pb_grpc.GeneratorStub, vocabulary: str
) -> None:
    """At once, not when it has passed."""
    service.on_engine.step_times.record_step(1, 1.0)
    steps = gate.arrived
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary, max_tokens=LONG), timeout=100))
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "this would take" in error.value.details()
    assert gate.arrived == steps


def test_a_deadline_that_passes_in_the_queue_ends_the_wait(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    service: Running,
) -> None:
    """With DEADLINE_EXCEEDED, no work, and its place free for another."""
    two_running()
    steps = gate.arrived
    late = ask(20, 3, timeout=1.0)
    with pytest.raises(grpc.RpcError) as error:
        list(late)
    assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    until(lambda: service.held == 2)
    assert gate.arrived == steps


def test_cancelling_frees_the_slot_within_one_step(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    service: Running,
) -> None:
    """The current step is its last; a waiting request takes its slot in the next one."""
    cancelled, _other = two_running()
    waiting = ask(20, 3)
    ended = len(service.outcomes)
    cancelled.cancel()
    until(lambda: len(service.outcomes) > ended)
    gate.let_pass(1)
    gate.wait()
    assert service.on_engine.engine.current_load().waiting == 0
    gate.let_pass(1)
    assert next(waiting).token_ids
