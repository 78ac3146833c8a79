"""`edgewise-cloud serve` as a process: its log, its metrics port, and a shutdown by SIGTERM."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_edge.store.cache_folder import cache_folder
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import CANARY, LONG, received_tokens, shows, until


@dataclass
class Life:
    """What was seen of one process from its start to its end."""

    messages: list[str] = field(
        default_factory=list
    )  # logged until it served and had compiled everything
    metrics: bytes = b""
    alone: list[int] = field(default_factory=list)
    health: list[int] = field(default_factory=list)
    refused: grpc.StatusCode | None = None
    answers: list[list[int]] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)  # programs kept when all were compiled
    rest: str = ""  # logged after that
    status: int | None = None


@contextmanager
def started(exact_folder: Path) -> "Iterator[subprocess.Popen[str]]":
    """The command, killed if it is still running at the end."""
    process = subprocess.Popen(
        [
            *(Path(sys.executable).with_name("edgewise-cloud"), "serve", "--model", exact_folder),
            *("--port", "0", "--slots", "1", "--grace", "600"),
            *("--metrics-port", "0", "--log-format", "json"),
        ],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def until_compiled(process: "subprocess.Popen[str]") -> list[str]:
    """Its messages until it serves and has compiled everything."""
    messages, awaited = list[str](), {"try", "compiled"}
    while awaited:
        messages.append(json.loads(process.stderr.readline())["message"])
        awaited.discard(messages[-1].replace(":", " ").split()[0])
    return messages


def kept_programs() -> list[str]:
    """The files in the cache folder."""
    return sorted(path.name for path in (cache_folder() / "programs").iterdir() if path.is_file())


def admitted(stub: pb_grpc.GeneratorStub) -> int:
    """Requests that run or wait."""
    load = stub.GetLoad(pb.GetLoadRequest())
    return load.running + load.waiting


@pytest.fixture(scope="module")
def life(exact_folder: Path, vocabulary: str) -> Life:
    """It serves one request, then eight, and gets SIGTERM while most of them wait."""
    seen = Life()
    request = pb.GenerateRequest(
        token_ids=CANARY,
        prompt_tokens=len(CANARY),
        max_tokens=LONG,
        sampling=pb.Sampling(temperature=0, top_p=1, repetition_penalty=1),
        vocabulary=vocabulary,
    )
    with started(exact_folder) as process:
        seen.messages = until_compiled(process)
        seen.cached = kept_programs()
        ports = [
            message.rpartition(":")[2]
            for message in seen.messages
            if message.startswith(("metrics", "ready"))
        ]
        metrics_port, port = ports
        with urlopen(f"http://127.0.0.1:{metrics_port}/metrics") as scraped:
            seen.metrics = scraped.read()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = pb_grpc.GeneratorStub(channel)
            seen.alone = received_tokens(stub.Generate(request))
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            seen.health.append(next(watch).status)
            calls = [stub.Generate(request) for _ in range(8)]
            until(lambda: admitted(stub) == 8)
            process.send_signal(signal.SIGTERM)
            seen.health.append(next(watch).status)
            with pytest.raises(grpc.RpcError) as error:
                list(stub.Generate(request))
            seen.refused = error.value.code()
            seen.answers = [received_tokens(call) for call in calls]
        _, seen.rest = process.communicate()
        seen.status = process.returncode
    return seen


def test_sigterm_lets_admitted_requests_finish(life: Life) -> None:
    """NOT_SERVING first, new requests refused, all others answered, though one watches; status 0."""
    status = health_pb2.HealthCheckResponse
    assert life.health == [status.SERVING, status.NOT_SERVING]
    assert life.refused is grpc.StatusCode.UNAVAILABLE
    assert life.answers == [life.alone] * 8
    assert life.status == 0


def test_it_logs_only_json(life: Life) -> None:
    """Each line is an object: the start's steps, requests, the drain, the end, without tokens."""
    steps = list(dict.fromkeys(message.split()[0] for message in life.messages))
    steps.remove("compiled")  # sooner or later
    assert steps == ["metrics", "importing", "loading", "compiling", "warming", "ready", "try:"]
    messages = [json.loads(line)["message"].split(":")[0] for line in life.rest.splitlines()]
    assert set(messages) == {"draining", "request", "stopped"}
    assert messages[-1] == "stopped"
    assert messages.count("draining") == 1
    assert messages.count("request") == 1 + 8 + 1
    assert not shows(life.rest, CANARY)
    assert not shows(life.rest, life.alone)


def test_the_next_start_compiles_nothing(life: Life, exact_folder: Path) -> None:
    """It finds all programs, and keeps no other."""
    assert life.cached
    with started(exact_folder) as process:
        until_compiled(process)
    assert kept_programs() == life.cached


def test_it_serves_metrics(life: Life) -> None:
    """On the port that it logs."""
    assert b"edgewise_slots 1.0" in life.metrics
