"""GET /health: whether a text can be answered."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edgewise.server.errors import HttpError
from edgewise.server.service import Service

_SHORTLY = 1.0  # seconds


async def health(request: Request) -> Response:
    """200, or 503 while the model is loaded or fetched."""
    service: Service = request.app.state.service
    if problem := service.loading.problem():
        raise HttpError(503, problem, "server_error", code="not_ready", retry_after=_SHORTLY)
    return JSONResponse({"status": "ok"})


routes = [Route("/health", health)]
