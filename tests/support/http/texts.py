"""The least endpoints that write a text: what every endpoint of the server builds on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from edgewise import Router
from edgewise.server.app import create_app
from edgewise.server.messages.body import read_body
from edgewise.server.messages.extension import edgewise_object
from edgewise.server.messages.headers import request_options
from edgewise.server.messages.streaming import DONE, event_stream, generation
from edgewise.server.settings import ServerSettings


class TextRequest(msgspec.Struct):
    prompt: str
    max_tokens: int | None = None
    temperature: float | None = None
    tags: list[str] | None = None


async def text(request: Request) -> Response:
    service = request.app.state.service
    body = await read_body(request, TextRequest)
    options: Any = request_options(request, service) | {"max_tokens": body.max_tokens}
    async with generation(service, body.prompt, options) as stream:
        async for _ in stream:
            pass
    result = stream.generation
    return JSONResponse({"text": result.text, "edgewise": edgewise_object(result)})


async def stream(request: Request) -> Response:
    service = request.app.state.service
    body = await read_body(request, TextRequest)
    options: Any = request_options(request, service) | {"max_tokens": body.max_tokens}

    async def events() -> AsyncIterator[dict[str, Any] | bytes]:
        async with generation(service, body.prompt, options) as chunks:
            async for chunk in chunks:
                yield {"text": chunk.text}
        yield DONE

    return event_stream(events(), service)


ROUTES = [Route("/text", text, methods=["POST"]), Route("/stream", stream, methods=["POST"])]


def text_app(router: Router, **settings: Any) -> Starlette:
    """An app with these two endpoints, too."""
    app = create_app(router, ServerSettings(**settings))
    app.router.routes.extend(ROUTES)
    return app


@contextmanager
def client(router: Router, **settings: Any) -> Iterator[TestClient]:
    """Asks such an app in this process."""
    with TestClient(text_app(router, **settings), base_url="http://localhost:8765") as asking:
        yield asking
