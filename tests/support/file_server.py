"""A static HTTP server with ranges, which can misbehave as real ones do.

with FileServer(folder) as server:
    server.misbehave(Fault.STALL, after=1000)   # the next request
    fetch(server.address)
"""

import gzip
import hashlib
import ssl
import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit


class Fault(Enum):
    """What can go wrong with one answer."""

    STALL = auto()  # `after` bytes, then silence
    TRUNCATE = auto()  # `after` bytes, then the connection ends
    MORE = auto()  # `after` bytes more than the file has
    MORE_THAN_SAID = auto()  # the same, in chunks of unknown number
    OTHER_BYTES = auto()  # as many, but others
    NO_RANGE = auto()  # 200 and the whole file, whatever was asked
    OTHER_RANGE = auto()  # 206 from `after` bytes further on
    NOT_SATISFIABLE = auto()  # 416
    STATUS = auto()  # `status` with `headers`
    GZIP = auto()  # compressed, though not asked for


@dataclass(frozen=True)
class Misbehaviour:
    """A fault and its details."""

    fault: Fault
    on: str = ""  # in the path of a request; others are answered as usual
    after: int = 0
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What was asked, and how many bytes of the file were sent for it."""

    path: str
    headers: dict[str, str]
    sent: int = 0


class FileServer:
    """Serves `folder` on loopback. Its ETags are sha256s, so a changed file has another one."""

    def __init__(
        self,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        etags: bool = True,
        ranges: bool = True,
        slice_bytes: int = 2**16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        self.etags, self.ranges = etags, ranges
        self.slice_bytes = slice_bytes  # of one write
        self.requests: list[Request] = []
        self.faults: deque[Misbehaviour] = deque()
        self.always: Misbehaviour | None = None
        self.closed = threading.Event()
        self._http = _Server((host, 0), _handler(self))
        if tls:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        scheme = "https" if tls else "http"
        self.port = self._http.server_address[1]
        self.address = f"{scheme}://{host}:{self.port}"

    def __enter__(self) -> Self:
        """Serve."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and end answers that stall."""
        self.closed.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def misbehave(self, fault: Fault, *, times: int = 1, **details: object) -> None:
        """The next requests that no earlier call has spoken for."""
        self.faults.extend([Misbehaviour(fault, **details)] * times)  # type: ignore[arg-type]

    def redirect(
        self, location: str, *, status: int = 302, times: int = 1, on: str = "", **headers: str
    ) -> None:
        """The next requests, to `location`. `headers` are written with "_" for "-"."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        self.misbehave(
            Fault.STATUS, on=on, times=times, status=status, headers={"Location": location, **more}
        )

    def next_fault(self, path: str) -> Misbehaviour | None:
        """For a request of `path`."""
        if self.faults and self.faults[0].on in path:
            return self.faults.popleft()
        return None if self.faults else self.always

    @property
    def sent(self) -> int:
        """Bytes of files sent so far."""
        return sum(request.sent for request in self.requests)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients may leave at any time."""


def _handler(server: FileServer) -> type[BaseHTTPRequestHandler]:
    class Handler(_Handler):
        files = server

    return Handler


class _Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    files: FileServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        files = self.files
        request = Request(self.path, {name.lower(): value for name, value in self.headers.items()})
        files.requests.append(request)
        how = files.next_fault(self.path)
        path = files.folder.joinpath(unquote(urlsplit(self.path).path).lstrip("/"))
        try:
            if how and how.fault is Fault.STATUS:
                self._answer(how.status, b"", how.headers, request)
            elif not path.is_file():
                self._answer(404, b"", {}, request)
            else:
                self._serve(path.read_bytes(), how, request)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            self.close_connection = True

    def _serve(self, content: bytes, how: Misbehaviour | None, request: Request) -> None:
        fault = how.fault if how else None
        after = how.after if how else 0
        headers = {"Accept-Ranges": "bytes"}
        etag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        if self.files.etags:
            headers["ETag"] = etag
        start, total = self._start(etag) if fault is not Fault.NO_RANGE else None, len(content)
        status = 200 if start is None else 206
        if fault is Fault.NOT_SATISFIABLE or (start is not None and start >= total):
            return self._answer(416, b"", {"Content-Range": f"bytes */{total}"}, request)
        start = (start or 0) + (after if fault is Fault.OTHER_RANGE else 0)
        body, fills = content[start:], bytes(after)
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        if fault is Fault.OTHER_BYTES:
            body = bytes(byte ^ 1 for byte in body)
        if fault is Fault.GZIP:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        if fault in {Fault.MORE, Fault.MORE_THAN_SAID}:
            body += fills
        if fault is Fault.MORE_THAN_SAID:
            return self._answer_chunked(status, body, headers, request)
        headers["Content-Length"] = str(len(body))
        if fault in {Fault.STALL, Fault.TRUNCATE}:
            body, self.close_connection = body[:after], True
        self._answer(status, body, headers, request)
        if fault is Fault.STALL:
            self.files.closed.wait()
        return None

    def _start(self, etag: str) -> int | None:
        """Of the range that was asked for, if the file has not changed."""
        asked = self.headers.get("Range", "")
        if not asked or not self.files.ranges or self.headers.get("If-Range", etag) != etag:
            return None
        return int(asked.removeprefix("bytes=").removesuffix("-"))

    def _answer(self, status: int, body: bytes, headers: dict[str, str], request: Request) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body), self.files.slice_bytes):
            piece = body[start : start + self.files.slice_bytes]
            self.wfile.write(piece)
            request.sent += len(piece)

    def _answer_chunked(
        self, status: int, body: bytes, headers: dict[str, str], request: Request
    ) -> None:
        self.send_response(status)
        for name, value in {"Transfer-Encoding": "chunked", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        for start in range(0, len(body), self.files.slice_bytes):
            piece = body[start : start + self.files.slice_bytes]
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            request.sent += len(piece)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""
