"""Runs the app with uvicorn until it is told to stop."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.applications import Starlette

from edgewise.router import Router
from edgewise.server.app import create_app
from edgewise.server.run.connections import BoundedConnection
from edgewise.server.run.sockets import address_of, listening
from edgewise.server.run.tls import tls_context
from edgewise.server.settings import ServerSettings

_GRACE = 10  # seconds that running texts get when the server is to stop
_KEEP_ALIVE = 30  # seconds that a connection may be idle
_MOST_CONNECTIONS = 512  # of the 1,024 files that a process may usually open


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that takes requests: its address, and how to stop it, from any thread."""

    address: str  # an URL, or the path of the unix socket
    stop: Callable[[], None]


def serve(router: Router, settings: ServerSettings, on_ready: Callable[[Serving], object]) -> None:
    """Serve until SIGTERM or Ctrl-C: then running texts may end within 10 s. A second one exits.

    `on_ready` is called once requests are taken; the model is loaded meanwhile. Outside of the
    main thread, only `Serving.stop` stops it. Raises ConfigurationError.
    """
    serve_app(create_app(router, settings), settings, on_ready)


def serve_app(
    app: Starlette, settings: ServerSettings, on_ready: Callable[[Serving], object]
) -> None:
    """As `serve`, for what `create_app` made of the same settings."""
    tls = None
    if settings.certificate and settings.key:
        tls = tls_context(settings.certificate, settings.key)
    with listening(settings) as bound:
        config = uvicorn.Config(
            app,
            http=BoundedConnection,
            ws="none",
            loop="asyncio",
            lifespan="on",
            log_config=None,
            log_level="critical",  # errors are ours to tell, without content
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=_KEEP_ALIVE,
            timeout_graceful_shutdown=_GRACE,
        )
        config.load()
        config.ssl = tls  # older ones have no option for a context
        server = _Server(config)
        server.on_started = lambda: on_ready(Serving(address_of(settings, bound), server.stop))
        asyncio.run(server.serve(sockets=[bound]))


class _Server(uvicorn.Server):
    """Says when it has started, and leaves the signals' earlier handlers as they were."""

    on_started: Callable[[], object]

    async def startup(self, sockets: Any = None) -> None:
        """See uvicorn."""
        await super().startup(sockets)
        self.on_started()

    def stop(self) -> None:
        """Stop soon."""
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn, which would send itself the signal again at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._stop_or_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop_or_exit(self, number: int, _: object) -> None:
        if self.should_exit:
            os._exit(128 + number)  # a step that hangs may not let Python end
        self.stop()
