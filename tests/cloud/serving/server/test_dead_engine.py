"""A service whose engine has died, or does not stop."""

import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_cloud.errors import EngineDeadError
from edgewise_cloud.serving.engine import engine as engine_module
from edgewise_cloud.serving.on_ray import replica
from edgewise_cloud.serving.server.server import ServerSettings
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import generation, until
from tests.support.service import serving

# The command, with an engine without a model that dies once it serves.
DYING = """
import sys, threading
from concurrent.futures import Future
from types import SimpleNamespace
from edgewise_cloud.cli import main
from edgewise_cloud.serving.server.server import Server

def load(*_):
    died = Future()
    threading.Timer(0.2, died.set_result, [None]).start()
    threading.Thread(target=threading.Event().wait).start()  # a step that hangs
    return SimpleNamespace(died=died, close=lambda: None)

Server.__init__.__kwdefaults__["load_engine"] = load
sys.argv[1:] = ["serve", "--port", "0", "--log-format", "json"]
main()
"""


def test_it_stops_serving(exact_folder: Path, vocabulary: str) -> None:
    """Health says NOT_SERVING, its load is no longer told, and it asks to be stopped."""

    def fail() -> None:
        raise MemoryError

    with (
        serving(str(exact_folder)) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        running.programs.before["decode"] = running.programs.before["reset"] = fail
        stub = pb_grpc.GeneratorStub(channel)
        for send in (
            lambda: list(stub.Generate(generation(vocabulary))),
            lambda: list(stub.Generate(generation(vocabulary))),
            lambda: stub.GetLoad(pb.GetLoadRequest()),
            lambda: stub.GetModel(pb.GetModelRequest()),
        ):
            with pytest.raises(grpc.RpcError) as error:
                send()
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error.value.details() == "the model has stopped working"
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        until(running.server.stop.is_set)


def test_the_command_exits_with_1() -> None:
    """So that a supervisor starts it again, even if a thread hangs; its log says why."""
    done = subprocess.run(
        [sys.executable, "-c", DYING], capture_output=True, text=True, check=False, env=os.environ
    )
    assert done.returncode == 1
    assert '"level": "critical"' in done.stderr.splitlines()[-1]
    assert "the model stopped working" in done.stderr.splitlines()[-1]


def test_draining_is_bounded_when_a_step_hangs(
    exact_folder: Path, vocabulary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests end UNAVAILABLE, and the service stops while the step still hangs."""
    monkeypatch.setattr(engine_module, "STOP_TIMEOUT", 0.05)
    with (
        serving(str(exact_folder), grace=0.05) as running,
        grpc.insecure_channel(running.address) as channel,
    ):
        running.programs.decode_gate.close()
        call = pb_grpc.GeneratorStub(channel).Generate(generation(vocabulary))
        running.programs.decode_gate.wait()
        running.stop()
        with pytest.raises(grpc.RpcError) as error:
            list(call)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.on_engine.engine.died.done()


def test_ray_replaces_its_replica(exact_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve calls check_health."""
    with serving(str(exact_folder)) as running:
        engine = running.on_engine.engine
        monkeypatch.setattr(replica, "load_engine", lambda *_: engine)
        one = replica.Replica(ServerSettings())
        one.check_health()
        engine.died.set_result(None)
        with pytest.raises(EngineDeadError):
            one.check_health()
