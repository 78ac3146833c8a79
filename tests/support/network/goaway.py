"""A peer that closes the connection, and says why in words that look like a line of a log."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.network.raw_http2 import GOAWAY, SETTINGS, frame

FORGED = '{"level": "error", "message": "forged"}'
INTERNAL_ERROR = 2  # gRPC logs every GOAWAY with an error


def goaway() -> bytes:
    """The frame."""
    return frame(GOAWAY, struct.pack(">II", 0, INTERNAL_ERROR) + f"x\n{FORGED}\n".encode())


@contextmanager
def cloud_that_closes() -> Iterator[str]:
    """Its address; it answers each connection's first bytes with GOAWAY."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed
                return
            with connection:
                connection.recv(1000)
                connection.sendall(frame(SETTINGS) + goaway())
                while connection.recv(1000):  # until the peer has read it, too
                    pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
