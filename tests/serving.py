"""A real cloud service on a real socket, for tests."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.server.server import Server, ServerSettings


@dataclass
class Running:
    """A server in a thread of its own; `stop` drains it."""

    server: Server
    address: str
    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread
    _stopped: bool = field(default=False)

    @property
    def held(self) -> int:
        """Requests that run or wait."""
        load = self.server.answering.engine.load()
        return load.running + load.waiting

    def stop(self) -> None:
        """Drain and end it; a second call does nothing."""
        if not self._stopped:
            self._stopped = True
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result(30)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(30)

    async def _drain(self) -> None:
        await self.server.drain()
        # What asyncio.run does at its end.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def serving(model: str, *, load: bool = True, **settings: Any) -> Iterator[Running]:
    """Serve `model` on a free port until the block ends; without `load` it stays NOT_SERVING.

    Settings are those of the server or of its engine, which has few slots: each size of a step is
    compiled.
    """
    ours = {part.name for part in fields(EngineSettings)} & settings.keys()
    engine = EngineSettings(**{"slots": 4, **{name: settings.pop(name) for name in ours}})
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> tuple[Server, int]:
        given = {"model": model, "port": 0, "grace": 1.0, "engine": engine, **settings}
        server = Server(ServerSettings(**given))
        port = await server.start()
        if load:
            await server.load()
        return server, port

    server, port = asyncio.run_coroutine_threadsafe(start(), loop).result(120)
    running = Running(server, f"127.0.0.1:{port}", loop, thread)
    try:
        yield running
    finally:
        running.stop()
        loop.close()
