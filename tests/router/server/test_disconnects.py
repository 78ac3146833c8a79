"""A client that goes away stops the work, wherever its request is."""

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2
import pytest

from edgewise import Limits, Router
from edgewise.generation.attempt import Attempt
from edgewise.testing import ScriptedDevice, hangs_after
from tests.support.http.server import running_app
from tests.support.http.texts import text_app

PATIENCE = 30.0  # seconds


class Counting:
    """A script that says when it hangs, and when it was stopped."""

    def __init__(self, after: int) -> None:
        self.hangs, self.stopped = threading.Event(), threading.Event()
        self._script = hangs_after(after, self.hangs)

    def __call__(self, tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        try:
            yield from self._script(tokens, attempt)
        finally:
            self.stopped.set()


@contextmanager
def asked(address: str, path: str, missing: int = 0) -> Iterator[socket.socket]:
    """A connection on which a text was asked for; so many bytes of the body are still to come."""
    host, _, port = address.removeprefix("http://").partition(":")
    body = json.dumps({"prompt": "x", "max_tokens": 1000}).encode()
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        connection.sendall(
            b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (path.encode(), len(body) + missing, body)
        )
        yield connection


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("path", ["/text", "/stream"])
@pytest.mark.parametrize("after", [0, 3])
def test_a_disconnect_stops_the_compute(path: str, after: int) -> None:
    """Before the first token and later, with a stream and without."""
    script = Counting(after)
    with (
        Router(ScriptedDevice("the answer", script)) as router,
        running_app(text_app(router)) as server,
    ):
        with asked(server.address, path):
            assert script.hangs.wait(PATIENCE)
            assert not script.stopped.is_set()
        assert script.stopped.wait(PATIENCE)


def test_one_that_leaves_in_mid_body_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing failed, so nothing is logged."""
    with Router(ScriptedDevice("the answer")) as router, running_app(text_app(router)) as server:
        with asked(server.address, "/text", missing=1):
            pass
        httpx2.get(f"{server.address}/health")
    assert "a request failed" not in caplog.text


def test_one_that_breaks_off_a_fast_stream_is_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Though many chunks are written before the server learns of it."""
    with (
        Router(ScriptedDevice("the answer " * 100)) as router,
        running_app(text_app(router)) as server,
    ):
        for _ in range(10):
            with asked(server.address, "/stream") as connection:
                connection.recv(100)
                reset = struct.pack("ii", 1, 0)  # without a goodbye, for what is unread
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    assert not caplog.records


def test_one_that_waits_in_the_queue_leaves_it() -> None:
    """Nothing is computed for it."""
    script = Counting(0)
    device = ScriptedDevice("the answer", script)
    with Router(device, limits=Limits(max_queue=1)) as router:
        app = text_app(router)
        queue = app.state.service.queue
        with running_app(app) as server:
            with asked(server.address, "/text"):
                assert script.hangs.wait(PATIENCE)
                with asked(server.address, "/text"):
                    until(lambda: queue.waiting == 1)
                until(lambda: queue.waiting == 0)
            assert script.stopped.wait(PATIENCE)
    assert len(device.requests) == 1
