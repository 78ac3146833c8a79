"""Calls of an app in the event loop of the test, whose replies are read as they come."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from starlette.applications import Starlette
from starlette.types import Message

Told = tuple[str, dict[str, Any]]


class Call:
    """One request: a context manager, which disconnects at its end."""

    def __init__(
        self,
        app: Starlette,
        method: str,
        path: str,
        content: object = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        sent = {"host": "localhost", "content-type": "application/json"} | (headers or {})
        self._scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 8765),
        }
        self._app, self._body = app, json.dumps(content).encode()
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        self._from_app: asyncio.Queue[Message] = asyncio.Queue()
        self.status = 0

    async def __aenter__(self) -> Self:
        """Send it."""
        self._to_app.put_nowait({"type": "http.request", "body": self._body, "more_body": False})
        self._task = asyncio.create_task(
            self._app(self._scope, self._to_app.get, self._from_app.put)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Disconnect, and wait until the app is done with it."""
        self._to_app.put_nowait({"type": "http.disconnect"})
        await self._task

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([part async for part in self._parts()])

    async def events(self) -> AsyncIterator[Told]:
        """The name and the data of each."""
        async for part in self._parts():
            for block in part.decode().split("\n\n"):
                fields = dict(line.split(": ", 1) for line in block.splitlines())
                if "data" in fields:
                    yield fields.get("event", ""), json.loads(fields["data"])

    async def _parts(self) -> AsyncIterator[bytes]:
        more = True
        while more:
            message = await self._from_app.get()
            self.status = message.get("status", self.status)
            more = message["type"] == "http.response.start" or message.get("more_body", False)
            yield message.get("body", b"")


async def ask(
    app: Starlette, method: str, path: str, content: object = None, **headers: str
) -> tuple[int, Any]:
    """The status of a reply and its JSON (None: no body)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with Call(app, method, path, content, named) as call:
        body = await call.body()
    return call.status, json.loads(body) if body else None
