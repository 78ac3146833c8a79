"""The bearer token that clients must send, where one is set."""

from hmac import compare_digest

from starlette.types import ASGIApp, Receive, Scope, Send

from edgewise.server.errors import HttpError
from edgewise.server.security.messages import values_of
from edgewise.server.settings import ServerSettings


class TokenCheck:
    """Refuses requests without the token (401), except for `open_paths`."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, open_paths: frozenset[str]) -> None:
        self._app, self._open_paths = app, open_paths
        self._expected = settings.token.encode() if settings.token else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if self._expected and scope["type"] == "http" and scope["path"] not in self._open_paths:
            self._check(scope, self._expected)
        await self._app(scope, receive, send)

    def _check(self, scope: Scope, expected: bytes) -> None:
        values = values_of(scope, b"authorization")
        kind, _, token = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        # In constant time: how long it takes tells nothing about the token.
        right = compare_digest(token.strip().encode("latin-1"), expected)
        if kind.lower() != "bearer" or not right:
            raise HttpError(
                401,
                "this server needs its token: send 'Authorization: Bearer TOKEN'",
                "authentication_error",
                code="invalid_api_key",
            )
