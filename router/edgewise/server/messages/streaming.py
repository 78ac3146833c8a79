"""A text in a place of the queue, and its events on their way to the client."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from edgewise.generation.stream import AsyncTextStream
from edgewise.options import RequestOptions
from edgewise.server.errors import from_error, stopping
from edgewise.server.messages.batches import together
from edgewise.server.service import Service

log = logging.getLogger("edgewise")

DONE = b"data: [DONE]\n\n"  # how OpenAI's streams end
STALLED = 30.0  # seconds that a client may take to read; then its text ends, for its place
_COMMENT = b": still here\n\n"
_LEAST_BUDGET = 1e-3  # seconds: what is left of one that the queue used up
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # for nginx, which would hold events back
]

encode = msgspec.json.Encoder().encode


def event(data: object, name: str | None = None) -> bytes:
    """A server-sent event, with a name or without."""
    if name is None:
        return b"data: %b\n\n" % encode(data)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), encode(data))


@asynccontextmanager
async def generation(
    service: Service, prompt: "str | Sequence[int]", options: RequestOptions
) -> AsyncIterator[AsyncTextStream]:
    """A text in a place of the queue, waiting for one. Budgets count from the call.

    A client that disconnects cancels the task that reads it, which stops the compute. Raises
    HttpError (429).
    """
    arrived = time.monotonic()
    async with service.queue.place():
        left = remaining(options, time.monotonic() - arrived)
        async with service.router.astream(prompt, **left) as stream:
            yield stream


def remaining(options: RequestOptions, waited: float) -> RequestOptions:
    """The options, with what `waited` seconds left of the budgets."""
    left = options.copy()
    if budget := options.get("first_token_budget"):
        left["first_token_budget"] = max(budget - waited, _LEAST_BUDGET)
    if budget := options.get("latency_budget"):
        left["latency_budget"] = max(budget - waited, _LEAST_BUDGET)
    return left


def event_stream(
    events: AsyncIterator[bytes | dict[str, Any]],
    service: Service,
    *,
    error_name: str | None = None,
) -> Response:
    """A response of server-sent events: dicts as JSON, bytes as they are (see `event`).

    What is raised before the first event is answered as any other error, by its status. Later it
    becomes the last event, with the name `error_name`. A silence of `comment_interval` seconds gets
    a comment, so that nothing on the way takes the connection for dead.
    """
    return _EventStream(events, service.settings.comment_interval, error_name)


class _StalledError(Exception):
    """The client reads no more."""


class _EventStream(Response):
    def __init__(
        self,
        events: AsyncIterator[bytes | dict[str, Any]],
        interval: float,
        error_name: str | None,
    ) -> None:
        super().__init__()
        self._events, self._interval, self._error_name = events, interval, error_name
        self._started = False
        self._last = 0.0  # when something was sent
        self._sending = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the events."""
        self._last = time.monotonic()
        comments = asyncio.create_task(self._comment(send))
        try:
            await self._send_events(send)
        finally:
            comments.cancel()
            with suppress(asyncio.CancelledError, _StalledError):
                await comments
            if close := getattr(self._events, "aclose", None):
                await close()

    async def _send_events(self, send: Send) -> None:
        try:
            async with aclosing(together(self._events)) as batches:
                async for items in batches:
                    # Each send is a system call and more: it costs as much as ten events.
                    told = (item if isinstance(item, bytes) else event(item) for item in items)
                    await self._send(send, b"".join(told))
        except asyncio.CancelledError:
            if self._started:  # not by a client that has gone: nothing is sent to it
                await self._send(send, event(stopping().body(), self._error_name))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            raise
        except Exception as error:
            if not self._started or isinstance(error, _StalledError):
                raise
            answer = from_error(error)
            if answer.status >= 500:
                log.warning("a stream failed: %s", type(error.__cause__ or error).__name__)
            await self._send(send, event(answer.body(), self._error_name))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _comment(self, send: Send) -> None:
        while True:
            silent = time.monotonic() - self._last
            if silent >= self._interval:
                await self._send(send, _COMMENT)
            else:
                await asyncio.sleep(self._interval - silent)

    async def _send(self, send: Send, body: bytes) -> None:
        async with self._sending:
            if not self._started:
                self._started = True
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            try:
                async with asyncio.timeout(STALLED):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
            except TimeoutError as error:
                raise _StalledError from error
        self._last = time.monotonic()
