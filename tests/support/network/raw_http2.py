"""HTTP/2 by hand, for clients that no library can imitate: RFC 9113, and a minimum of RFC 7541."""

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GENERATE = "/edgewise.v1.Generator/Generate"

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
ACK = END_STREAM = 1
END_HEADERS = 4
HEADER_TABLE_SIZE, INITIAL_WINDOW_SIZE = 1, 4
LONGEST_FRAME = 16384


@dataclass(frozen=True)
class Frame:
    """One frame as received."""

    kind: int
    flags: int
    stream: int
    payload: bytes


class Http2:
    """A connection after the preface and SETTINGS; the test sends the rest."""

    def __init__(
        self, address: str, settings: dict[int, int] | None = None, source: str = "127.0.0.1"
    ) -> None:
        self.socket = connect(address, source)
        # Without a dynamic table, response headers are literals that can be searched for.
        settings = {HEADER_TABLE_SIZE: 0} | (settings or {})
        body = b"".join(struct.pack(">HI", *setting) for setting in settings.items())
        self.socket.sendall(PREFACE + frame(SETTINGS, body))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    def send(self, *frames: bytes) -> None:
        """Send frames."""
        self.socket.sendall(b"".join(frames))

    def frames(self) -> Iterator[Frame]:
        """The frames received until the server closes; SETTINGS and PING are acknowledged."""
        with self.socket.makefile("rb") as file:
            while header := file.read(9):
                length, kind = int.from_bytes(header[:3]), header[3]
                stream = int.from_bytes(header[5:]) & 0x7FFFFFFF
                received = Frame(kind, header[4], stream, file.read(length))
                if received.kind in {SETTINGS, PING} and not received.flags & ACK:
                    body = received.payload if received.kind == PING else b""
                    self.send(frame(received.kind, body, flags=ACK))
                yield received

    def answer(self, stream: int) -> list[Frame]:
        """The frames of a stream, until its end or until the server closes."""
        frames = []
        for received in self.frames():
            if received.stream == stream:
                frames.append(received)
                if received.kind == RST_STREAM or (
                    received.kind in {DATA, HEADERS} and received.flags & END_STREAM
                ):
                    break
        return frames


def connect(address: str, source: str = "127.0.0.1") -> socket.socket:
    """A TCP connection to HOST:PORT, from a loopback address."""
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=30, source_address=(source, 0))


def messages(frames: list[Frame]) -> list[bytes]:
    """The messages in a stream's frames."""
    octets, found = b"".join(each.payload for each in frames if each.kind == DATA), list[bytes]()
    while octets:
        end = 5 + int.from_bytes(octets[1:5])
        found.append(octets[5:end])
        octets = octets[end:]
    return found


def frame(kind: int, payload: bytes = b"", *, flags: int = 0, stream: int = 0) -> bytes:
    """The bytes of a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def call(
    stream: int, message: bytes | None = None, *, path: str = GENERATE, **more: str | bytes
) -> bytes:
    """The frames of a gRPC call; without a message, the server waits for one.

    Names of further headers have `_` in place of `-`.
    """
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": path,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    } | {name.replace("_", "-"): value for name, value in more.items()}
    block = b"".join(literal(name, value) for name, value in fields.items())
    first, *rest = [
        block[start : start + LONGEST_FRAME] for start in range(0, len(block), LONGEST_FRAME)
    ]
    kinds = [HEADERS] + [CONTINUATION] * len(rest)
    frames = [
        frame(kind, part, flags=END_HEADERS if number == len(rest) else 0, stream=stream)
        for number, (kind, part) in enumerate(zip(kinds, [first, *rest], strict=True))
    ]
    if message is not None:
        frames.append(data(stream, enveloped(message), last=True))
    return b"".join(frames)


def data(stream: int, payload: bytes, *, last: bool = False) -> bytes:
    """A DATA frame."""
    return frame(DATA, payload, flags=END_STREAM if last else 0, stream=stream)


def enveloped(message: bytes, *, compressed: bool = False, length: int | None = None) -> bytes:
    """A length-prefixed gRPC message, with a false length if one is given."""
    return struct.pack(">BI", compressed, len(message) if length is None else length) + message


def reset(stream: int) -> bytes:
    """A RST_STREAM frame with CANCEL."""
    return frame(RST_STREAM, struct.pack(">I", 8), stream=stream)


def grant(octets: int, stream: int = 0) -> bytes:
    """A WINDOW_UPDATE frame, for a stream or (0) for the connection."""
    return frame(WINDOW_UPDATE, struct.pack(">I", octets), stream=stream)


def literal(name: str, value: str | bytes) -> bytes:
    """A literal header field without indexing (RFC 7541, section 6.2.2)."""
    value = value.encode() if isinstance(value, str) else value
    return b"\0" + _length(len(name)) + name.encode() + _length(len(value)) + value


def _length(number: int) -> bytes:
    """An integer with a 7-bit prefix (RFC 7541, section 5.1)."""
    if number < 127:
        return bytes([number])
    number, rest = number - 127, b"\x7f"
    while number >= 128:
        rest += bytes([number % 128 + 128])
        number //= 128
    return rest + bytes([number])
