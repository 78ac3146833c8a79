"""Where the tokens of Generate's responses end in a connection's bytes: minimal HTTP/2 and gRPC."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.support.network.raw_http2 import DATA, PREFACE

# A request to Generate holds a vocabulary fingerprint, so it is longer than any other.
SHORTEST_REQUEST = 64


@dataclass
class Frames:
    """Splits one direction of a connection into frames, incrementally."""

    seen: int = 0  # bytes
    _unread: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(stream, offset, payload) of each DATA frame that is complete now."""
        self._unread += chunk
        self.seen += len(chunk)
        while len(self._unread) >= 9:
            length, kind = int.from_bytes(self._unread[:3]), self._unread[3]
            if len(self._unread) < 9 + length:
                return
            stream = int.from_bytes(self._unread[5:9]) & 0x7FFFFFFF
            offset = self.seen - len(self._unread) + 9
            payload = bytes(self._unread[9 : 9 + length])
            del self._unread[: 9 + length]
            if kind == DATA:
                yield stream, offset, payload


@dataclass
class Messages:
    """Splits one stream's payload into gRPC messages, however frames divide them."""

    _header: bytes = b""
    _remaining: int = 0  # bytes of the current message

    def ends(self, payload: bytes) -> Iterator[int]:
        """Where in `payload` a message ends."""
        at = 0
        while at < len(payload):
            if len(self._header) < 5:
                self._header += payload[at : at + 1]
                at += 1
                self._remaining = int.from_bytes(self._header[1:])
            else:
                step = min(self._remaining, len(payload) - at)
                at, self._remaining = at + step, self._remaining - step
            if len(self._header) == 5 and not self._remaining:
                self._header = b""
                yield at


@dataclass
class TokenBoundaries:
    """Both directions of a connection. Where HTTP/2 cannot be read (TLS) it finds no tokens.

    Each message of a response counts as a token, as this service sends them; also the last one,
    which holds none.
    """

    _preface: bytes = b""
    _requests: Frames = field(default_factory=Frames)
    _responses: Frames = field(default_factory=Frames)
    _generations: dict[int, Messages] = field(default_factory=dict)  # by stream

    def to_cloud(self, chunk: bytes) -> None:
        """Note which streams are calls of Generate."""
        preface = chunk[: len(PREFACE) - len(self._preface)]
        self._preface += preface
        if self._preface == PREFACE:
            for stream, _, payload in self._requests.feed(chunk[len(preface) :]):
                if len(payload) >= SHORTEST_REQUEST:
                    self._generations.setdefault(stream, Messages())

    def to_device(self, chunk: bytes) -> list[int]:
        """Offsets in `chunk` where tokens end; 1 for earlier ones whose frame ends here."""
        if self._preface != PREFACE:
            return []
        before = self._responses.seen
        return [
            max(1, offset + end - before)
            for stream, offset, payload in self._responses.feed(chunk)
            if stream in self._generations
            for end in self._generations[stream].ends(payload)
        ]
