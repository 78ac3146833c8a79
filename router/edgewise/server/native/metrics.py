"""GET /metrics: what the router counts, for Prometheus."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edgewise.server.errors import HttpError


async def metrics(_: Request) -> Response:
    """The default registry of prometheus-client, where `edgewise serve` counts."""
    try:
        from prometheus_client import REGISTRY
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
    except ImportError:
        message = "there are no metrics: pip install prometheus-client and start again"
        raise HttpError(404, message, code="not_found") from None
    return Response(generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})


routes = [Route("/metrics", metrics)]
