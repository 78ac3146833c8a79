"""Who waits, who is refused, and in which order requests start."""

from collections.abc import Callable

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.gated_programs import Gate
from tests.support.generate_requests import LONG, generation, received_tokens, until
from tests.support.service import Running


def test_a_full_service_refuses_without_a_step(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    alone: Callable[[int], list[int]],
) -> None:
    """It says when to retry, while the model stands still; all other requests are served."""
    wanted = [alone(token)[:20] for token in (7, 8)]
    calls = two_running() + [ask(token, 20) for token in (7, 8)]
    steps = gate.arrived
    with pytest.raises(grpc.RpcError) as error:
        list(stub.Generate(generation(vocabulary)))
    assert gate.arrived == steps
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = Status.FromString(dict(error.value.trailing_metadata())["grpc-status-details-bin"])
    retry = RetryInfo()
    assert status.details[0].Unpack(retry)
    assert retry.retry_delay.ToNanoseconds() > 0
    gate.open()
    assert [len(received_tokens(call)) for call in calls[:2]] == [LONG - 1] * 2
    assert [received_tokens(call) for call in calls[2:]] == wanted


def test_waiting_requests_start_in_order(
    ask: Callable[..., "grpc.UnaryStreamCall"],
    two_running: Callable[..., "list[grpc.UnaryStreamCall]"],
    gate: Gate,
    service: Running,
) -> None:
    """First come, first served; one that is cancelled leaves the queue without a step."""
    running = two_running()
    waiting = [ask(token, 3) for token in (20, 21)]
    steps = gate.arrived
    waiting[0].cancel()
    until(lambda: service.held == 3)
    waiting.append(ask(22, 3))
    assert gate.arrived == steps
    ended = len(service.outcomes)
    running[0].cancel()
    until(lambda: len(service.outcomes) > ended)
    gate.let_pass(1)
    gate.wait()
    assert 21 in service.programs.tokens  # in the only free slot
    running[1].cancel()
    gate.open()
    assert [len(received_tokens(call)) for call in waiting[1:]] == [3, 3]
