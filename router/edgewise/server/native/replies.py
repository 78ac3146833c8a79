"""A reply as JSON."""

from typing import Any

from starlette.responses import Response

from edgewise.server.messages.streaming import encode


def json_response(content: dict[str, Any]) -> Response:
    """What is infinite or unknown is null."""
    headers = {"cache-control": "no-store"}
    return Response(encode(content), media_type="application/json", headers=headers)
