"""GET /v1/models: the one model that is served, by its name and by name@revision."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from edgewise.server.errors import HttpError
from edgewise.server.service import Service
from edgewise_edge import Manifest


def names(manifest: Manifest) -> tuple[str, str]:
    """What requests may call the model."""
    return manifest.name, f"{manifest.name}@{manifest.revision}"


def require_model(name: str | None, service: Service) -> Manifest:
    """The manifest of the model served. Raises HttpError 404 for another name; None is no name."""
    manifest = service.router.model
    if name is not None and name not in names(manifest):
        raise HttpError(
            404,
            f"the model {name[:200]!r} does not exist; this server has "
            + " and ".join(repr(known) for known in names(manifest)),
            param="model",
            code="model_not_found",
        )
    return manifest


async def list_models(request: Request) -> JSONResponse:
    """Both names."""
    service: Service = request.app.state.service
    known = names(service.router.model)
    return JSONResponse({"object": "list", "data": [_object(name, service) for name in known]})


async def get_model(request: Request) -> JSONResponse:
    """One of them."""
    service: Service = request.app.state.service
    name = request.path_params["id"]
    require_model(name, service)
    return JSONResponse(_object(name, service))


def _object(name: str, service: Service) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(service.started),
        "owned_by": "edgewise",
    }


routes = [
    Route("/v1/models", list_models, methods=["GET"]),
    Route("/v1/models/{id:path}", get_model, methods=["GET"]),
]
