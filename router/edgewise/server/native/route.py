"""POST /v1/edgewise/route: which source would write, and why."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.errors import NoSourceError
from edgewise.generation.result import decision_dict, refusal_dict
from edgewise.server.messages.body import read_body
from edgewise.server.messages.headers import request_options
from edgewise.server.native.fields import RouteBody
from edgewise.server.native.replies import json_response
from edgewise.server.native.running import WhatIf
from edgewise.server.service import Service


async def route(request: Request) -> Response:
    """A decision without a text; a refusal is one, too."""
    service: Service = request.app.state.service
    body = await read_body(request, RouteBody)
    options = body.options(request_options(request, service))
    device = WhatIf(service.router, body.device)
    try:
        decision = await service.router.aroute(body.prompt, device=device, **options)
    except NoSourceError as error:
        told = refusal_dict(error.vetoes)
        return json_response(told | {"refused": True, "message": str(error)})
    return json_response(decision_dict(decision))


routes = [Route("/v1/edgewise/route", route, methods=["POST"])]
