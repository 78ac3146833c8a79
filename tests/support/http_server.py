"""A real HTTP server in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

from edgewise import Router
from edgewise.server.run import Serving, serve
from edgewise.server.settings import ServerSettings

PATIENCE = 60.0  # seconds


@contextmanager
def running_server(router: Router, settings: ServerSettings | None = None) -> Iterator[Serving]:
    """Serves `router` on a free port, or as `settings` say; closes neither the router nor its model."""
    ready: Queue[Serving | BaseException] = Queue()

    def run() -> None:
        try:
            serve(router, settings or ServerSettings(port=0), ready.put)
        except BaseException as error:  # noqa: BLE001  # the test raises it
            ready.put(error)

    thread = threading.Thread(target=run)
    thread.start()
    started = ready.get(timeout=PATIENCE)
    if isinstance(started, BaseException):
        thread.join()
        raise started
    try:
        yield started
    finally:
        started.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()
