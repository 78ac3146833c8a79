"""Bodies are JSON and say so.

Web pages can send text and forms to any server without asking it first, but not this content type.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from edgewise.server.errors import HttpError
from edgewise.server.security.messages import values_of

_WITH_BODY = {"POST", "PUT", "PATCH"}
_UTF_8 = {"charset=utf-8", 'charset="utf-8"', "charset=utf8", 'charset="utf8"'}


class ContentTypeCheck:
    """Refuses bodies that are not plain application/json (415)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and scope["method"] in _WITH_BODY and not _is_json(scope):
            raise HttpError(
                415,
                "send the body as JSON, with 'Content-Type: application/json'",
                code="unsupported_media_type",
            )
        await self._app(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    types = values_of(scope, b"content-type")
    if len(types) != 1 or values_of(scope, b"content-encoding"):
        return False
    kind, *parameters = (part.strip() for part in types[0].lower().split(";"))
    charsets = {part for part in parameters if part.startswith("charset")}
    return kind == "application/json" and charsets <= _UTF_8
