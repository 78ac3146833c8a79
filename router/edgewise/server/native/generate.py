"""POST /v1/edgewise/generate: a text with each decision about it; PATCH and DELETE act on it."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.datastructures import State
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.options import RequestOptions
from edgewise.server.messages.body import read_body
from edgewise.server.messages.headers import request_options
from edgewise.server.messages.streaming import event, event_stream, generation
from edgewise.server.native.events import events_of
from edgewise.server.native.fields import ChangeBody, GenerateBody
from edgewise.server.native.running import Running, WhatIf, find, registered
from edgewise.server.service import Service


async def generate(request: Request) -> Response:
    """The text as server-sent events with names; docs/http.md lists them."""
    service: Service = request.app.state.service
    body = await read_body(request, GenerateBody)
    options: Any = body.options(request_options(request, service))
    written = _write(request.app.state, body, options)
    return event_stream(written, service, error_name="error")


async def _write(
    state: State, body: GenerateBody, options: RequestOptions
) -> AsyncIterator[bytes | dict[str, Any]]:
    service: Service = state.service
    device = WhatIf(service.router, body.device)
    async with generation(service, body.prompt, {**options, "device": device}) as stream:
        stream.read_ahead = 0  # each decision is told in its place
        await stream.start()  # what it raises is answered by its status
        with registered(state, Running(stream, device)) as id_:
            yield event({"id": id_}, "started")
            async with aclosing(events_of(stream, body.pace)) as events:
                async for told in events:
                    yield told


async def change(request: Request) -> Response:
    """Acts in mid-text, at once."""
    body = await read_body(request, ChangeBody)
    running = find(request.app.state, request.path_params["id"])
    running.stream.change(
        privacy=body.privacy,  # type: ignore[arg-type]  # checked there
        first_token_budget=body.first_token_budget,
        latency_budget=body.latency_budget,
    )
    if body.device:
        running.device.assumed = body.device
        running.stream.change()  # looks at the device
    return Response(status_code=204)


async def stop(request: Request) -> Response:
    """The text ends here; its stream tells what there is."""
    await find(request.app.state, request.path_params["id"]).stream.aclose()
    return Response(status_code=204)


_ONE = "/v1/edgewise/generations/{id}"
routes = [
    Route("/v1/edgewise/generate", generate, methods=["POST"]),
    Route(_ONE, change, methods=["PATCH"]),
    Route(_ONE, stop, methods=["DELETE"]),
]
