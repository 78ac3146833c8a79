"""The app: one Router behind HTTP."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from importlib import import_module
from importlib.util import find_spec

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route

from edgewise.router import Router
from edgewise.server.native import health, metrics
from edgewise.server.page import routes as page_routes
from edgewise.server.replies import ErrorReplies, not_found
from edgewise.server.security.content_types import ContentTypeCheck
from edgewise.server.security.hosts import HostCheck
from edgewise.server.security.origins import OriginCheck
from edgewise.server.security.settings import check_settings
from edgewise.server.security.tokens import TokenCheck
from edgewise.server.service import Service
from edgewise.server.service.disconnects import CancelOnDisconnect
from edgewise.server.settings import ServerSettings

_DEFAULTS = ServerSettings()

# Later: imported at the top, and listed like the first two.
_COMING = (
    "openai.models",
    "openai.completions",
    "openai.chat",
    "openai.responses",
    "native.route",
    "native.device",
    "native.generate",
)


def create_app(router: Router, settings: ServerSettings = _DEFAULTS) -> Starlette:
    """An ASGI app that answers with `router`. It loads the model once it has started.

    Raises ConfigurationError for settings that are invalid, or not safe.
    """
    check_settings(settings)
    service = Service.of(router, settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(service.loading.run())
        yield
        loading.cancel()
        with suppress(asyncio.CancelledError):
            await loading

    app = Starlette(
        routes=list(_routes()),
        middleware=[
            Middleware(ErrorReplies),
            Middleware(HostCheck, settings),
            Middleware(OriginCheck, settings),
            Middleware(
                ErrorReplies
            ),  # once more here, for the headers with which pages can read it
            Middleware(TokenCheck, settings),
            Middleware(ContentTypeCheck),
            Middleware(CancelOnDisconnect),
        ],
        exception_handlers={HTTPException: not_found},
        lifespan=lifespan,
    )
    app.state.service = service
    return app


def _routes() -> Iterable[Route]:
    yield from health.routes
    yield from metrics.routes
    yield from page_routes
    for name in _COMING:
        module = f"edgewise.server.{name}"
        if find_spec(module):
            yield from import_module(module).routes
