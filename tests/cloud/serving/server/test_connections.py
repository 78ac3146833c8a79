"""Connections that are silent, idle, dead, or not gRPC at all, with short limits."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.server.grpc_server import ConnectionLimits
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import generation, received_tokens, until
from tests.support.network.raw_http2 import (
    ACK,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Http2,
    call,
    connect,
    frame,
)
from tests.support.service import Running, serving

LIMITS = ConnectionLimits(
    keepalive_time=0.5,
    keepalive_timeout=1.0,
    min_client_ping_interval=0.01,
    handshake_timeout=1.0,
    max_idle=2.0,
)
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(193))
OPENINGS = {
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": TLS_HELLO,
    "binary": bytes(range(255, -1, -1)) * 64,
    "nothing": b"",
    "half a preface": PREFACE[:10],
    "no settings": PREFACE,
    "no call": PREFACE + frame(SETTINGS),
    "half a call": PREFACE + frame(SETTINGS) + call(1)[:20],
    "bad headers": PREFACE + frame(SETTINGS) + frame(HEADERS, b"\xff" * 100, flags=4, stream=1),
    "a huge frame": PREFACE + frame(SETTINGS) + b"\xff\xff\xff" + b"\0" * 100,
    "a short ping": PREFACE + frame(PING, b"short"),
}


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    with serving(str(exact_folder), queue=2, connections=LIMITS) as running:
        yield running


def test_what_is_not_grpc_is_closed(service: Running, others: Callable[[], None]) -> None:
    """At once or after a timeout; others are served in the meantime."""
    with ExitStack() as stack:
        strangers = [stack.enter_context(connect(service.address)) for _ in OPENINGS]
        for stranger, opening in zip(strangers, OPENINGS.values(), strict=True):
            stranger.sendall(opening)
        others()
        for stranger in strangers:
            with suppress(ConnectionResetError):
                while stranger.recv(65536):  # until it is closed
                    pass


def test_clients_may_ping(service: Running) -> None:
    """By default, gRPC treats the third ping as an attack."""
    with Http2(service.address) as http2:
        frames = http2.frames()
        for number in range(10):
            time.sleep(0.02)
            http2.send(frame(PING, struct.pack(">Q", number)))
            answer = next(
                each
                for each in frames
                if each.kind == GOAWAY or (each.kind == PING and each.flags & ACK)
            )
            assert answer.kind == PING


def test_an_idle_connection_is_closed(service: Running) -> None:
    """Also one that answers every ping."""
    with Http2(service.address) as http2:
        assert [received.kind for received in http2.frames()][-1] == GOAWAY


@contextmanager
def dying_proxy(address: str) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Its address; an event to set, after which it drops all data; one set when the server closes.

    Either peer then sees what it would see if the other's cable were cut.
    """
    dead, closed = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def forward(source: socket.socket, target: socket.socket, end: threading.Event) -> None:
            with suppress(OSError):
                while received := source.recv(65536):
                    if not dead.is_set():
                        target.sendall(received)
            end.set()

        def run() -> None:
            near, _ = server.accept()
            with near, connect(address) as far:
                back = threading.Thread(target=forward, args=(far, near, closed))
                back.start()
                forward(near, far, threading.Event())
                back.join()

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}", dead, closed
        thread.join()


def test_a_dead_peer_is_noticed(
    service: Running, alone: Callable[..., list[int]], vocabulary: str
) -> None:
    """Its connection is closed and its slot freed, long before its answer would be complete."""
    wanted = alone(5)
    with (
        dying_proxy(service.address) as (address, dead, closed),
        grpc.insecure_channel(address) as channel,
        service.on_engine.gated() as gate,
    ):
        gate.close()
        before, ended = gate.arrived, len(service.outcomes)
        request = generation(vocabulary, token_ids=[5], prompt_tokens=1, max_tokens=len(wanted))
        running = pb_grpc.GeneratorStub(channel).Generate(request)
        gate.wait()
        dead.set()
        until(lambda: closed.is_set() and len(service.outcomes) > ended)
        gate.let_pass(1)
        until(lambda: not service.held)
        assert gate.arrived == before + 1
        running.cancel()
        channel.close()
    with grpc.insecure_channel(service.address) as channel:
        answer = pb_grpc.GeneratorStub(channel).Generate(request)
        assert received_tokens(answer) == wanted
