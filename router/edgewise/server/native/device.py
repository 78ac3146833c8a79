"""GET /v1/edgewise/device: the device, its model, and what the router would do with them."""

import asyncio
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.policy.types import Privacy
from edgewise.router import Router
from edgewise.server.native.replies import json_response
from edgewise.server.service import Service
from edgewise_edge import ModelNotFoundError
from edgewise_edge.installed import contents


async def device(request: Request) -> Response:
    """As it is now; its state is at most a second old."""
    service: Service = request.app.state.service
    # In a thread: a sensor may hang.
    told = await asyncio.to_thread(_device, service.router, private=service.settings.private)
    return json_response(told)


def _device(router: Router, *, private: bool) -> dict[str, Any]:
    cloud = router.cloud_source
    return {
        "state": asdict(router.device_state()),
        "availability": asdict(router.availability()),
        "model": _model(router),
        "update": _update(router),
        "limits": asdict(router.limits),
        "cloud": {"address": str(cloud)} if cloud else None,
        "mode": router.mode,
        "default_privacy": Privacy.PRIVATE if private else router.default_privacy,
        "private": private,
    }


def _model(router: Router) -> dict[str, Any] | None:
    """None for a model that is still to be downloaded."""
    try:
        manifest = router.model
    except ModelNotFoundError:
        return None
    return {
        "name": manifest.name,
        "revision": manifest.revision,
        "size": contents.size(manifest),
        "memory": manifest.memory,
        "context_window": manifest.architecture.context_window,
        "vocabulary_size": manifest.architecture.vocabulary_size,
    }


def _update(router: Router) -> dict[str, Any]:
    """The revisions that the store knows besides the one in use, and what is going on in words."""
    state = router.revisions()
    probation = state.probation if state else None
    return {
        "staged": state.staged if state else None,
        "previous": state.previous if state else None,
        "probation": probation.generations_left if probation else None,
        "detail": router.availability().detail,
    }


routes = [Route("/v1/edgewise/device", device)]
