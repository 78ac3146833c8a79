"""Where in a connection's bytes the tokens of Generate's answers end: of HTTP/2 and gRPC the least."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.raw_http2 import DATA, PREFACE

# A request to Generate holds a vocabulary's fingerprint, and is longer than any other for it.
SHORTEST_REQUEST = 64


@dataclass
class Frames:
    """Cuts one direction of a connection into frames, as its bytes come."""

    seen: int = 0  # bytes that have come
    _unread: bytearray = field(default_factory=bytearray)

    def feed(self, chunk: bytes) -> Iterator[tuple[int, int, bytes]]:
        """(stream, offset, payload) of each DATA frame that is whole now."""
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
    """Cuts one stream's payload into gRPC's messages, however they lie in frames."""

    _header: bytes = b""
    _left: int = 0  # bytes of the present message

    def ends(self, payload: bytes) -> Iterator[int]:
        """Where in `payload` a message ends."""
        at = 0
        while at < len(payload):
            if len(self._header) < 5:
                self._header += payload[at : at + 1]
                at += 1
                self._left = int.from_bytes(self._header[1:])
            else:
                step = min(self._left, len(payload) - at)
                at, self._left = at + step, self._left - step
            if len(self._header) == 5 and not self._left:
                self._header = b""
                yield at


@dataclass
class TokenEnds:
    """Both directions of a connection. Where no HTTP/2 can be read (TLS) there are no tokens.

    A message of an answer is taken for a token, as this service sends them: the last one too, which
    holds none.
    """

    _hello: bytes = b""
    _asked: Frames = field(default_factory=Frames)
    _answered: Frames = field(default_factory=Frames)
    _answers: dict[int, Messages] = field(default_factory=dict)  # to Generate, by stream

    def to_cloud(self, chunk: bytes) -> None:
        """Note which streams ask for tokens."""
        hello = chunk[: len(PREFACE) - len(self._hello)]
        self._hello += hello
        if self._hello == PREFACE:
            for stream, _, payload in self._asked.feed(chunk[len(hello) :]):
                if len(payload) >= SHORTEST_REQUEST:
                    self._answers.setdefault(stream, Messages())

    def to_device(self, chunk: bytes) -> list[int]:
        """Where in `chunk` tokens end; 1 for those before it whose frame ended only here."""
        if self._hello != PREFACE:
            return []
        before = self._answered.seen
        return [
            max(1, offset + end - before)
            for stream, offset, payload in self._answered.feed(chunk)
            if stream in self._answers
            for end in self._answers[stream].ends(payload)
        ]
