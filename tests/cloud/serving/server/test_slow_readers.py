"""Callers that do not read their answers."""

from collections.abc import Callable
from pathlib import Path

from edgewise_cloud.serving.server.grpc_server import ConnectionLimits
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import LONG, generation, received_tokens, until
from tests.support.network.raw_http2 import INITIAL_WINDOW_SIZE, Http2, call, grant, messages
from tests.support.service import Running, serving


def test_an_unread_answer_is_dropped(exact_folder: Path, vocabulary: str) -> None:
    """After a while its stream ends UNAVAILABLE."""
    limits = ConnectionLimits(send_timeout=0.2)
    request = generation(vocabulary, max_tokens=LONG).SerializeToString()
    with (
        serving(str(exact_folder), connections=limits) as service,
        Http2(service.address, {INITIAL_WINDOW_SIZE: 100}) as stalled,
    ):
        stalled.send(call(1, request))
        until(lambda: service.outcomes)
        stalled.send(grant(1 << 20, 1))
        frames = stalled.answer(1)
    assert 0 < len(messages(frames)) < LONG
    assert b"grpc-status\x0214" in frames[-1].payload


def test_an_answer_that_is_not_read_holds_no_slot(
    service: Running,
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    alone: Callable[[int], list[int]],
) -> None:
    """It is generated, its slot goes to others, and it is complete when it is read at last."""
    wanted = {token: alone(token) for token in (8, 9)}
    until(lambda: not service.held)
    request = generation(vocabulary, token_ids=[9], prompt_tokens=1, max_tokens=LONG)
    streams = (1, 3)
    with Http2(service.address, {INITIAL_WINDOW_SIZE: 0}) as stalled:
        stalled.send(*[call(stream, request.SerializeToString()) for stream in streams])
        other = generation(vocabulary, token_ids=[8], prompt_tokens=1, max_tokens=LONG)
        assert received_tokens(stub.Generate(other)) == wanted[8]
        until(lambda: not service.held)
        for stream in streams:
            stalled.send(grant(1 << 20, stream))
            *answer, last = [
                pb.GenerateResponse.FromString(each) for each in messages(stalled.answer(stream))
            ]
            assert [each.token_ids[0] for each in answer] == wanted[9]
            assert last.finish_reason == pb.FINISH_REASON_LENGTH
