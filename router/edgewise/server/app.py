"""The app: one Router behind HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from edgewise.router import Router
from edgewise.server import page
from edgewise.server.messages.replies import ErrorReplies, not_found
from edgewise.server.native import device, generate, health, metrics, route
from edgewise.server.openai import chat, completions, models, responses
from edgewise.server.security.content_types import ContentTypeCheck
from edgewise.server.security.hosts import HostCheck
from edgewise.server.security.origins import OriginCheck
from edgewise.server.security.settings import check_settings
from edgewise.server.security.tokens import TokenCheck
from edgewise.server.service import Service
from edgewise.server.service.disconnects import CancelOnDisconnect
from edgewise.server.settings import ServerSettings

_DEFAULTS = ServerSettings()

_MODULES = (
    health,
    metrics,
    models,
    completions,
    chat,
    responses,
    route,
    device,
    generate,
    page,
)
# What holds nothing of any text. The page asks for the token itself.
_OPEN_PATHS = page.PATHS | {"/health"}


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
        routes=[one for module in _MODULES for one in module.routes],
        middleware=[
            Middleware(ErrorReplies),
            Middleware(HostCheck, settings),
            Middleware(OriginCheck, settings),
            Middleware(ErrorReplies),  # again, for the headers with which listed pages can read it
            Middleware(TokenCheck, settings, _OPEN_PATHS),
            Middleware(ContentTypeCheck),
            Middleware(CancelOnDisconnect),
        ],
        exception_handlers={HTTPException: not_found},
        lifespan=lifespan,
    )
    app.state.service = service
    return app
