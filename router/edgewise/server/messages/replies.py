"""Every error as one JSON object, and nothing of it in a log."""

import asyncio
import logging

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgewise.server.errors import HttpError, from_error, stopping

log = logging.getLogger("edgewise")


class ErrorReplies:
    """Answers with the error that the endpoint raised."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        started = False

        async def watching(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watching)
        except asyncio.CancelledError:  # not for a disconnect, which is caught before
            if not started and scope["type"] == "http":
                await error_response(stopping())(scope, receive, send)
            raise
        except ClientDisconnect:
            return  # in mid-body; nobody is there to be answered
        except Exception as error:
            if scope["type"] != "http":
                raise
            told = from_error(error)
            if told.status == 500:
                # Without its message and traceback, which may quote a prompt.
                log.error("a request failed: %s", type(error).__name__)  # noqa: TRY400
            if not started:  # else nothing is left but to drop the connection, as the server does
                await error_response(told)(scope, receive, send)


def error_response(error: HttpError) -> Response:
    """As OpenAI's API answers."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        headers["www-authenticate"] = "Bearer"
    body = msgspec.json.encode(error.body())
    return Response(body, error.status, headers, media_type="application/json")


async def not_found(_: object, error: Exception) -> Response:
    """Starlette's own errors: no such path, or another method."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    messages = {
        404: "there is no such path; see docs/http.md for those that there are",
        405: "this path takes another method",
    }
    code = {404: "not_found", 405: "method_not_allowed"}.get(status)
    reply = error_response(HttpError(status, messages.get(status, "cannot be answered"), code=code))
    if isinstance(error, HTTPException) and error.headers:
        reply.headers.update(error.headers)
    return reply
