"""A real HTTP server in a thread of the test."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import Queue

from starlette.routing import BaseRoute

from edgewise import Router
from edgewise.server.app import create_app
from edgewise.server.run import Serving, serve_app
from edgewise.server.settings import ServerSettings

PATIENCE = 60.0  # seconds


@contextmanager
def running_server(
    router: Router, settings: ServerSettings | None = None, routes: Sequence[BaseRoute] = ()
) -> Iterator[Serving]:
    """Serves `router` on a free port, or as `settings` say, with further `routes`."""
    settings = settings or ServerSettings(port=0)
    app = create_app(router, settings)
    app.router.routes.extend(routes)
    ready: Queue[Serving | BaseException] = Queue()

    def run() -> None:
        try:
            serve_app(app, settings, ready.put)
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
