"""Clients that break HTTP/2 or gRPC, or flood the service: others are served as before."""

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.support.generate_requests import INTERNALS, generation, received_tokens, refusal, until
from tests.support.network.raw_http2 import Frame, Http2, call, data, enveloped, reset
from tests.support.service import Running

EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED


def status(frames: list[Frame]) -> tuple[int, bytes]:
    """The gRPC status and message of a raw answer."""
    trailers = frames[-1].payload
    code, text = (trailers.split(name, 1)[1] for name in (b"grpc-status", b"grpc-message"))
    assert not INTERNALS.search(text[1:].decode(errors="replace"))
    return int(code[1 : code[0] + 1]), text[1:]


@pytest.mark.parametrize("path", [b"/\xff\xfe/\x80", b"\xc3", b"", b"/a\0b", b"/" + b"%s" * 100])
def test_a_method_name_that_is_not_utf8_is_harmless(
    service: Running, others: Callable[[], None], path: bytes
) -> None:
    """The server that comes with gRPC would fail to decode it, and stop."""
    others()
    with Http2(service.address) as http2:
        http2.send(call(1, b"", path=path))
        assert http2.answer(1)
    others()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (enveloped(b"abc", compressed=True), 13),  # INTERNAL; its compression is not named
        (enveloped(b"abc", length=2**32 - 1), 8),  # RESOURCE_EXHAUSTED
        # gRPC's server does not answer a client that ends within a message, or before it.
        (enveloped(b"abc", length=200_000), None),
        (b"\0\0", None),
        (b"", None),
    ],
)
def test_invalid_message_prefixes_are_refused(
    service: Running, others: Callable[[], None], body: bytes, code: int | None
) -> None:
    """Others do not wait for the missing bytes."""
    with Http2(service.address) as http2:
        http2.send(call(1) + data(1, body, last=True))
        if code:
            assert status(http2.answer(1))[0] == code
        others()
        until(lambda: service.held <= 1)


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_decompression_bomb_is_refused(
    stub: pb_grpc.GeneratorStub, vocabulary: str, how: grpc.Compression, expected: list[int]
) -> None:
    """The limit applies after decompression: 100 MB sent as 100 kB are refused."""
    assert received_tokens(stub.Generate(generation(vocabulary), compression=how)) == expected[:20]
    bomb = generation("f" * 100_000_000)
    before = psutil.Process().memory_info().rss
    code, _ = refusal(lambda: list(stub.Generate(bomb, compression=how)))
    assert code in {EXHAUSTED, grpc.StatusCode.INTERNAL}
    assert psutil.Process().memory_info().rss - before < 400e6


def test_a_megabyte_of_headers_is_refused(
    channel: grpc.Channel, stub: pb_grpc.GeneratorStub, vocabulary: str, expected: list[int]
) -> None:
    """In one value or in many; a stream on the same connection continues."""
    running = stub.Generate(generation(vocabulary, max_tokens=100))
    first = next(running).token_ids
    for headers in ([("x", "a" * 1_000_000)], [(f"x-{n}", "a" * 100) for n in range(10_000)]):
        more = partial(stub.Generate, generation(vocabulary), metadata=headers)
        code, _ = refusal(lambda more=more: list(more()))
        assert code is EXHAUSTED
    assert [*first, *received_tokens(running)] == expected


def test_megabytes_of_headers_before_settings_are_harmless(
    service: Running, others: Callable[[], None]
) -> None:
    """Before a client has read the server's SETTINGS, gRPC accepts up to 16 MB of headers."""
    with Http2(service.address) as http2:
        http2.send(call(1, b"", **{f"x_{n}": "a" * 100_000 for n in range(200)}))
        assert http2.answer(1)
    others()


class Drained(Http2):
    """A connection that reads and discards everything."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # closed
            for _ in self.frames():
                pass


@pytest.mark.parametrize("many", [20_000, pytest.param(90_000, marks=pytest.mark.soak)])
def test_many_streams_opened_and_reset(
    service: Running, others: Callable[[], None], vocabulary: str, many: int
) -> None:
    """On one connection, each with a request: others are served, and memory does not grow."""
    request = generation(vocabulary, max_tokens=100).SerializeToString()
    process = psutil.Process()

    def abuse(total: int) -> int:
        with Drained(service.address) as http2:
            for first in range(1, 2 * total, 200):
                streams = range(first, first + 200, 2)
                http2.send(*[call(stream, request) + reset(stream) for stream in streams])
            others()
        until(lambda: service.held <= 1)
        return process.memory_info().rss

    before = abuse(many // 9)
    assert abuse(many) - before < max(50e6, many * 1100)


def test_calls_without_a_request_hold_nothing(
    service: Running, others: Callable[[], None], channel: grpc.Channel
) -> None:
    """Neither slots nor places in the queue; health is still answered."""
    connections = [Http2(service.address) for _ in range(8)]
    for http2 in connections:
        http2.send(*[call(stream) for stream in range(1, 200, 2)])
    others()
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for http2 in connections:
        http2.socket.close()
