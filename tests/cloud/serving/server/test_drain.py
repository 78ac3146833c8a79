"""What becomes of requests when the service shuts down."""

import threading
import time
from pathlib import Path

import grpc
import pytest

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import LONG, generation, until
from tests.support.network.raw_http2 import INITIAL_WINDOW_SIZE, Http2, call
from tests.support.service import serving


def test_draining_lets_running_streams_finish(exact_folder: Path, vocabulary: str) -> None:
    """A stream that has started is completed within the grace period."""
    with (
        serving(str(exact_folder), grace=600.0) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        stream = pb_grpc.GeneratorStub(channel).Generate(generation(vocabulary, max_tokens=LONG))
        next(stream)
        stopper = threading.Thread(target=running.stop)
        stopper.start()
        *_, last = stream
        stopper.join()
        assert last.finish_reason == pb.FINISH_REASON_LENGTH


def test_requests_still_open_after_the_grace_period_end_unavailable(
    exact_folder: Path, vocabulary: str
) -> None:
    """Running or waiting, read or not: so that their callers continue elsewhere."""
    with (
        serving(str(exact_folder), grace=0.3) as running,
        grpc.insecure_channel(running.address) as channel,
        Http2(running.address, {INITIAL_WINDOW_SIZE: 0}) as stalled,
    ):
        gate = running.programs.decode_gate
        request = generation(vocabulary, max_tokens=LONG)
        before = gate.arrived
        stalled.send(call(1, request.SerializeToString()))
        until(lambda: gate.arrived > before)
        until(lambda: not running.held)
        running.programs.before["decode"] = lambda: time.sleep(0.1)  # each step
        gate.close()
        stub = pb_grpc.GeneratorStub(channel)
        calls = [stub.Generate(request) for _ in range(3)]
        until(lambda: running.held == 3)
        gate.open()
        running.stop()
        for each in calls:
            with pytest.raises(grpc.RpcError) as error:
                list(each)
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error.value.details() == "the service is shutting down"
