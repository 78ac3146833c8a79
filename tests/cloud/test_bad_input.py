"""What strangers send: refused with the right code, and others are served as before.

What a request of the right shape may ask for is in test_service.py.
"""

import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from edgewise_cloud.serving.server import grpc_server
from edgewise_edge import DeviceModel
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from tests.asking import generation, until
from tests.raw_http2 import (
    ACK,
    GENERATE,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    Frame,
    Http2,
    call,
    connect,
    data,
    enveloped,
    frame,
    reset,
)
from tests.serving import Running, serving
from tests.steps import gated

INVALID, EXHAUSTED = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED
INTERNALS = re.compile(r"/|\\|Error|Exception|Traceback|<|tensorflow|google|python", re.IGNORECASE)


@pytest.fixture(scope="module")
def service(exact_folder: Path) -> Iterator[Running]:
    """One that waits for nobody as long as it should."""
    with pytest.MonkeyPatch.context() as patch:
        for limit, seconds in {
            "PING_AFTER": 0.5,
            "PONG_WITHIN": 0.5,
            "LEAST_BETWEEN_PINGS": 0.01,
            "HELLO_WITHIN": 1.0,
            "IDLE": 2.0,
        }.items():
            patch.setattr(grpc_server, limit, seconds)
        with serving(str(exact_folder), slots=2, queue=8) as running:
            yield running


@pytest.fixture(scope="module")
def channel(service: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(service.address) as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> pb_grpc.GeneratorStub:
    return pb_grpc.GeneratorStub(channel)


@pytest.fixture(scope="module")
def vocabulary(exact_model: DeviceModel) -> str:
    return exact_model.tokenizer.fingerprint


@pytest.fixture(scope="module")
def quiet(stub: pb_grpc.GeneratorStub, vocabulary: str) -> list[int]:
    """The tokens when nothing else goes on."""
    return tokens(stub.Generate(generation(vocabulary, max_tokens=100)))


@pytest.fixture
def others(service: Running, vocabulary: str, quiet: list[int]) -> Iterator[Callable[[], None]]:
    """Well-behaved callers, one after the other, until the test ends; all get what they should.

    To be called, to wait until one more has come and gone.
    """
    over, done, failed = threading.Event(), count(), list[object]()
    served = [0]

    def go_on() -> None:
        while not over.is_set():
            try:
                # A connection each, so that new ones are served as well.
                with grpc.insecure_channel(service.address) as channel:
                    answer = pb_grpc.GeneratorStub(channel).Generate(
                        generation(vocabulary, max_tokens=100)
                    )
                    assert tokens(answer) == quiet
            except Exception as error:  # noqa: BLE001
                failed.append(error)
            served[0] = next(done) + 1

    def one_more() -> None:
        enough = served[0] + 2  # the first may have begun before
        until(lambda: served[0] >= enough)

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield one_more
        one_more()
    finally:
        over.set()
        thread.join()
    assert not failed


def tokens(answer: "grpc.UnaryStreamCall") -> list[int]:
    return [token for response in answer for token in response.token_ids]


def refusal(ask: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    """How it is refused, in words that tell nothing of what is inside."""
    with pytest.raises(grpc.RpcError) as error:
        ask()
    assert error.value.details()
    assert not INTERNALS.search(error.value.details())
    return error.value.code(), error.value.details()


def status(frames: list[Frame]) -> tuple[int, bytes]:
    """A raw answer's gRPC status and message."""
    trailers = frames[-1].payload
    code, text = (trailers.split(name, 1)[1] for name in (b"grpc-status", b"grpc-message"))
    assert not INTERNALS.search(text[1:].decode(errors="replace"))
    return int(code[1 : code[0] + 1]), text[1:]


def sampling(**changes: float) -> dict[str, pb.Sampling]:
    return {
        "sampling": pb.Sampling(**{"temperature": 1, "top_p": 1, "repetition_penalty": 1} | changes)
    }


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"token_ids": [1, 2, 3, 2**31]}, INVALID, "not in the vocabulary"),
        ({"token_ids": [1, 2, 3, 2**32 - 1]}, INVALID, "not in the vocabulary"),
        ({"token_ids": [7] * 200, "prompt_tokens": 200}, INVALID, "context window"),
        ({"token_ids": [7] * 100_000, "prompt_tokens": 100_000}, INVALID, "context window"),
        ({"prompt_tokens": 2**32 - 1}, INVALID, "prompt_tokens"),
        ({"max_tokens": 2**32 - 1}, INVALID, "context window"),
        ({"end_token_ids": [2**32 - 1]}, INVALID, "end token"),
        ({"token_ids": [1] * 10_000_000}, EXHAUSTED, "larger"),
        ({"vocabulary": "f" * 100_000}, grpc.StatusCode.FAILED_PRECONDITION, "vocabulary"),
        ({"vocabulary": "f" * 10_000_000}, EXHAUSTED, "larger"),
        (sampling(temperature=float("inf")), INVALID, "temperature"),
        (sampling(temperature=-5e-324), INVALID, "temperature"),
        (sampling(top_p=float("-inf")), INVALID, "top_p"),
        (sampling(top_p=0), INVALID, "top_p"),
        (sampling(repetition_penalty=1e308), INVALID, "repetition_penalty"),
        (sampling(repetition_penalty=float("nan")), INVALID, "repetition_penalty"),
        (sampling(top_k=2**32 - 1), INVALID, "top_k"),
        (sampling(seed=2**64 - 1), INVALID, "seed"),
    ],
)
def test_numbers_out_of_bounds_are_refused(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    changes: dict[str, object],
    code: grpc.StatusCode,
    words: str,
) -> None:
    """With a sentence that names the field, or what it is too large for."""
    refused = refusal(lambda: list(stub.Generate(generation(vocabulary, **changes))))
    assert refused[0] is code
    assert words in refused[1]


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        (sampling(temperature=-0.0), True),
        (sampling(temperature=5e-324), True),
        (sampling(temperature=1, top_p=5e-324), True),
        (sampling(temperature=100, repetition_penalty=100), False),
        (sampling(temperature=0, top_k=2**31 - 1, seed=2**63 - 1), True),
        ({"end_token_ids": [0] * 100_000}, True),
    ],
)
def test_numbers_at_their_bounds_are_served(
    stub: pb_grpc.GeneratorStub,
    vocabulary: str,
    quiet: list[int],
    changes: dict[str, object],
    same: bool,
) -> None:
    """What comes down to always taking the likeliest token gives just that."""
    came = tokens(stub.Generate(generation(vocabulary, **changes)))
    assert len(came) == 20
    assert (came == quiet[:20]) is same


def varint(number: int) -> bytes:
    return bytes([number]) if number < 128 else bytes([number % 128 | 128]) + varint(number // 128)


def test_fields_that_nobody_knows_are_ignored(
    channel: grpc.Channel, vocabulary: str, quiet: list[int]
) -> None:
    """As Protocol Buffers want it, so that newer clients are answered."""
    request = generation(vocabulary).SerializeToString()
    unknown = (
        varint(99 << 3 | 2) + varint(5) + b"later" + varint(2**29 - 1 << 3) + varint(2**64 - 1)
    )
    generate = channel.unary_stream(GENERATE, response_deserializer=pb.GenerateResponse.FromString)
    assert tokens(generate(unknown + request + unknown)) == quiet[:20]


@pytest.mark.parametrize(
    ("method", "raw", "code"),
    [
        (GENERATE, b"\x0a\xff\x01", INVALID),  # shorter than it says
        (GENERATE, b"\x08" + b"\xff" * 11, INVALID),  # a number of 77 bits
        (GENERATE, varint(1 << 3) + varint(2**64 - 1), grpc.StatusCode.FAILED_PRECONDITION),
        (GENERATE, bytes(range(256)) * 100, INVALID),
        (GENERATE, b"\x0b" * 100_000, INVALID),  # groups in groups
        (GENERATE, b"", grpc.StatusCode.FAILED_PRECONDITION),
        # Of another type, which nothing in it tells.
        (GENERATE, b"\x0a\x01x\x12\x01y", grpc.StatusCode.FAILED_PRECONDITION),
        ("/grpc.health.v1.Health/Check", b"\x0a\xff\x01", INVALID),
        ("/grpc.health.v1.Health/Watch", b"\x0a\xff\x01", INVALID),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", b"\x0a\xff", INVALID),
        ("/edgewise.v1.Generator/None", b"", grpc.StatusCode.UNIMPLEMENTED),
        ("/" + "x" * 4000, b"", grpc.StatusCode.UNIMPLEMENTED),
    ],
)
def test_messages_and_methods_that_are_none(
    channel: grpc.Channel, method: str, raw: bytes, code: grpc.StatusCode
) -> None:
    """The caller's mistake, not an UNKNOWN one of Python's."""
    assert refusal(lambda: list(channel.unary_stream(method)(raw)))[0] is code


@pytest.mark.parametrize("path", [b"/\xff\xfe/\x80", b"\xc3", b"", b"/a\0b", b"/" + b"%s" * 100])
def test_a_method_that_is_no_text_harms_nobody(
    service: Running, others: Callable[[], None], path: bytes
) -> None:
    """The server of gRPC as it comes decodes it, fails, and is gone."""
    others()
    with Http2(service.address) as http2:
        http2.send(call(1, b"", path=path))
        assert http2.answer(1)
    others()


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (enveloped(b"abc", compressed=True), 13),  # INTERNAL; no word of how
        (enveloped(b"abc", length=2**32 - 1), 8),  # RESOURCE_EXHAUSTED
        # gRPC's server says nothing to who ends amid a message, or before it.
        (enveloped(b"abc", length=200_000), None),
        (b"\0\0", None),
        (b"", None),
    ],
)
def test_envelopes_that_are_none(
    service: Running, others: Callable[[], None], body: bytes, code: int | None
) -> None:
    """Nobody else waits for what will not come."""
    with Http2(service.address) as http2:
        http2.send(call(1) + data(1, body, last=True))
        if code:
            assert status(http2.answer(1))[0] == code
        others()
        until(lambda: not service.server.answering.engine.load().waiting)


@pytest.mark.parametrize("how", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_a_bomb_is_refused(
    stub: pb_grpc.GeneratorStub, vocabulary: str, how: grpc.Compression, quiet: list[int]
) -> None:
    """The limit is on what is unpacked: 100 MB that came as 100 kB are too much."""
    assert tokens(stub.Generate(generation(vocabulary), compression=how)) == quiet[:20]
    bomb = generation("f" * 100_000_000)
    before = psutil.Process().memory_info().rss
    code, _ = refusal(lambda: list(stub.Generate(bomb, compression=how)))
    assert code in {EXHAUSTED, grpc.StatusCode.INTERNAL}
    assert psutil.Process().memory_info().rss - before < 400e6


def test_a_megabyte_of_headers_is_refused(
    channel: grpc.Channel, stub: pb_grpc.GeneratorStub, vocabulary: str, quiet: list[int]
) -> None:
    """In one value or in many; a stream that runs on the same connection goes on."""
    running = stub.Generate(generation(vocabulary, max_tokens=100))
    first = next(running).token_ids
    for headers in ([("x", "a" * 1_000_000)], [(f"x-{n}", "a" * 100) for n in range(10_000)]):
        more = partial(stub.Generate, generation(vocabulary), metadata=headers)
        code, _ = refusal(lambda more=more: list(more()))
        assert code is EXHAUSTED
    assert [*first, *tokens(running)] == quiet


def test_a_megabyte_of_headers_before_any_limit_is_known(
    service: Running, others: Callable[[], None]
) -> None:
    """Until a client has read the server's settings, gRPC itself takes up to 16 MB of headers."""
    with Http2(service.address) as http2:
        http2.send(call(1, b"", **{f"x_{n}": "a" * 100_000 for n in range(200)}))
        assert http2.answer(1)
    others()


class Drained(Http2):
    """A connection that reads all that comes, and keeps what kinds of frames that was."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.kinds: list[int] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(OSError):  # closed
            self.kinds.extend(came.kind for came in self.frames())


def test_a_hundred_thousand_streams_opened_and_reset(
    service: Running, others: Callable[[], None], vocabulary: str
) -> None:
    """On one connection, with a request in each: others are served, and memory does not grow."""
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

    before = abuse(10_000)
    assert abuse(90_000) - before < 100e6


def test_calls_that_never_send_their_request(
    service: Running, others: Callable[[], None], channel: grpc.Channel
) -> None:
    """They hold nothing that others need: neither slots nor places, and health is still told."""
    connections = [Http2(service.address) for _ in range(8)]
    for http2 in connections:
        http2.send(*[call(stream) for stream in range(1, 200, 2)])
    others()
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for http2 in connections:
        http2.socket.close()


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(193))


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        TLS_HELLO,
        bytes(range(255, -1, -1)) * 64,
        b"",
        PREFACE[:10],
        PREFACE,
        PREFACE + frame(SETTINGS),
        PREFACE + frame(SETTINGS) + call(1)[:20],
        PREFACE + frame(SETTINGS) + frame(HEADERS, b"\xff" * 100, flags=4, stream=1),
        PREFACE + frame(SETTINGS) + b"\xff\xff\xff" + b"\0" * 100,
        PREFACE + frame(PING, b"short"),
    ],
)
def test_who_speaks_something_else_or_nothing(
    service: Running, others: Callable[[], None], said: bytes
) -> None:
    """The connection is closed, at once or when patience is over."""
    with connect(service.address) as stranger:
        stranger.sendall(said)
        others()
        with suppress(ConnectionResetError):
            while stranger.recv(65536):
                pass


def test_pings_of_a_client_are_welcome(service: Running) -> None:
    """By default, gRPC takes the third for an attack."""
    with Http2(service.address) as http2:
        frames = http2.frames()
        for number in range(10):
            time.sleep(0.02)
            http2.send(frame(PING, struct.pack(">Q", number)))
            came = next(
                one
                for one in frames
                if one.kind in {PING, GOAWAY} and (one.kind == GOAWAY or one.flags & ACK)
            )
            assert came.kind == PING


def test_a_connection_without_calls_is_closed_after_a_while(service: Running) -> None:
    """Also one that answers every ping."""
    with Http2(service.address) as http2:
        assert [came.kind for came in http2.frames()][-1] == GOAWAY


@contextmanager
def dying_proxy(address: str) -> Iterator[tuple[str, threading.Event, threading.Event]]:
    """Its address; set the first event and nothing passes any more; the second is the server's end.

    To either side it then looks as if the other's cable had been cut.
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


def test_a_peer_that_is_gone_without_a_word_is_noticed(
    service: Running, vocabulary: str, quiet: list[int]
) -> None:
    """Its connection is closed and its slot freed, long before its text would have ended."""
    until(lambda: not service.held)
    engine = service.server.answering.engine
    with (
        dying_proxy(service.address) as (address, dead, closed),
        grpc.insecure_channel(address) as channel,
        gated(engine) as gate,
    ):
        stub = pb_grpc.GeneratorStub(channel)
        gate.close()
        running = stub.Generate(generation(vocabulary, max_tokens=100))
        gate.wait()
        dead.set()
        until(lambda: closed.is_set() and engine._running[0].left)
        gate.let_pass(1)
        until(lambda: not service.held)
        assert gate.begun == 1
        running.cancel()
        channel.close()
    with grpc.insecure_channel(service.address) as channel:
        answer = pb_grpc.GeneratorStub(channel).Generate(generation(vocabulary, max_tokens=100))
        assert tokens(answer) == quiet
