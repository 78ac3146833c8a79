"""A client that has gone needs no answer: its request's task is cancelled, which stops the compute."""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class CancelOnDisconnect:
    """Cancels a request when its client disconnects, wherever it waits: in the queue, for a token."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive, send)
        try:
            await self._app(scope, watch.receive, watch.send)
        except asyncio.CancelledError:
            if not watch.gone:
                raise
            watch.task.uncancel()
        finally:
            watch.stop()


class _Watch:
    """Reads on once the body is complete: all that can come then is the disconnect."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        task = asyncio.current_task()
        assert task  # noqa: S101  # for mypy: an ASGI app runs in one
        self.task = task
        self.gone = False
        self._watcher: asyncio.Task[None] | None = None
        self._done = False

    async def receive(self) -> Message:
        """See ASGI."""
        if self._watcher:  # whoever asks again waits for the disconnect
            with suppress(asyncio.CancelledError):
                await asyncio.shield(self._watcher)
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request" and not message.get("more_body", False):
            self._watcher = asyncio.create_task(self._wait())
        return message

    async def send(self, message: Message) -> None:
        """See ASGI."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.stop()  # the response is complete: the end of it is no disconnect
        await self._send(message)

    def stop(self) -> None:
        """Watch no longer."""
        self._done = True
        if self._watcher:
            self._watcher.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._done:
            self.gone = True
            self.task.cancel()
