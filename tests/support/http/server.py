"""A real HTTP server in a thread of the test."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue

from starlette.applications import Starlette

from edgewise import Router
from edgewise.server.app import create_app
from edgewise.server.run import Serving, serve_app
from edgewise.server.settings import ServerSettings

PATIENCE = 60.0  # seconds


@contextmanager
def running_server(router: Router, settings: ServerSettings | None = None) -> Iterator[Serving]:
    """Serves `router` on a free port, or as `settings` say."""
    settings = settings or ServerSettings(port=0)
    with running_app(create_app(router, settings), settings) as serving:
        yield serving


@contextmanager
def running_app(app: Starlette, settings: ServerSettings | None = None) -> Iterator[Serving]:
    """The same for an app."""
    ready: Queue[Serving | BaseException] = Queue()

    def run() -> None:
        try:
            serve_app(app, settings or ServerSettings(port=0), ready.put)
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
