"""Which web pages may send requests: the server's own and those on a list."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise.server.errors import HttpError
from edgewise.server.security.messages import values_of
from edgewise.server.settings import ServerSettings

_METHODS = "GET, POST, PATCH, DELETE"
_HEADERS = {"accept", "authorization", "content-type", "openai-organization", "openai-project"}
_PREFIXES = ("x-edgewise-", "x-stainless-", "openai-")
_SHOWN = "retry-after, x-request-id"
_MAX_AGE = "600"  # seconds that a browser remembers the answer


class OriginCheck:
    """Refuses requests of other web pages (403), and answers the preflights of listed ones.

    Sends no cookie's permission: who may use the server is said by the token alone.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings) -> None:
        self._app = app
        self._listed = frozenset(origin.lower() for origin in settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        origins = values_of(scope, b"origin") if scope["type"] == "http" else []
        if not origins:
            if scope["type"] == "http" and _embeds(scope):
                raise _refused()
            await self._app(scope, receive, send)
            return
        origin = origins[0].lower()
        listed = origin in self._listed
        if len(origins) > 1 or not (listed or origin == _own(scope)):
            raise _refused()
        if not listed:
            await self._app(scope, receive, send)
        elif scope["method"] == "OPTIONS" and values_of(scope, b"access-control-request-method"):
            await _preflight(scope, origins[0], send)
        else:
            await self._app(scope, receive, _telling(origins[0], send))


def _embeds(scope: Scope) -> bool:
    """Whether another page loads this as a script, an image, a frame, …, which names no origin.

    Browsers say so; programs say nothing. A link that the user follows is allowed.
    """
    if set(values_of(scope, b"sec-fetch-site")) <= {"same-origin", "none"}:
        return False
    return values_of(scope, b"sec-fetch-dest") != ["document"]


def _refused() -> HttpError:
    return HttpError(
        403,
        "this web page may not use this server; allow it with --allow-origin",
        "permission_error",
        code="origin_not_allowed",
    )


def _own(scope: Scope) -> str:
    """The origin of the server's own page. Its Host has been checked."""
    return f"{scope['scheme']}://{values_of(scope, b'host')[0].lower()}"


def _telling(origin: str, send: Send) -> Send:
    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers["access-control-expose-headers"] = _SHOWN
            headers.append("vary", "origin")
        await send(message)

    return with_headers


async def _preflight(scope: Scope, origin: str, send: Send) -> None:
    asked = ",".join(values_of(scope, b"access-control-request-headers")).lower().split(",")
    names = (name.strip() for name in asked)
    allowed = [name for name in names if name in _HEADERS or name.startswith(_PREFIXES)]
    headers = {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": ", ".join(allowed),
        "access-control-max-age": _MAX_AGE,
        "vary": "origin, access-control-request-headers",
    }
    if values_of(scope, b"access-control-request-private-network") == ["true"]:
        headers["access-control-allow-private-network"] = "true"
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": 204, "headers": raw})
    await send({"type": "http.response.body", "body": b""})
