"""A real cloud service in a process of its own that tests can kill, hundreds of times.

Importing TensorFlow takes four seconds and compiling three. So each service is forked from a
process that has imported TensorFlow but computed nothing (after a first computation its threads
would be missing in the child, which then hangs), and finds what the first service compiled in XLA's
own cache: 1.5 seconds from the fork to the first token.
"""

import asyncio
import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.server.server import ServerSettings, running_server

FORKS = multiprocessing.get_context("forkserver")
PRELOADED = [
    f"edgewise_cloud.{name}"
    for name in ("serving.server.server", "serving.engine.engine", "keras_models.load")
]
# The fork server ignores modules that it cannot import, and each service would import TensorFlow.
assert all(map(find_spec, PRELOADED)), PRELOADED
FORKS.set_forkserver_preload(PRELOADED)


@dataclass
class Child:
    """One service process."""

    process: BaseProcess
    port: Connection  # from which its port can be read once it serves

    def address(self) -> str:
        """HOST:PORT, once it serves."""
        try:
            return f"127.0.0.1:{self.port.recv()}"
        except EOFError as error:
            raise RuntimeError("the service ended before it served; see its traceback") from error

    def stop(self) -> None:
        """Kill it, and wait until it has ended."""
        self.process.kill()
        self.process.join()
        self.port.close()


@dataclass
class KillableServer:
    """Services of one model, one after the other, each at a port of its own.

    While one is used, `ahead` others start. Put a fault_proxy before them to have one address for
    all.
    """

    model: str
    compiled: str  # folder for XLA's programs
    slots: int
    ahead: int
    _current: Child | None = None
    _next: deque[Child] = field(default_factory=deque)

    def start(self) -> str:
        """The address of a new service, which serves; the previous one has ended."""
        if self._current:
            self._current.stop()
        self._current = self._next.popleft() if self._next else self._fork()
        address = self._current.address()
        while len(self._next) < self.ahead:  # only now: the first one compiles for all
            self._next.append(self._fork())
        return address

    def kill(self) -> None:
        """Send the service SIGKILL, without waiting for its end."""
        self._current.process.kill()

    def close(self) -> None:
        """Kill all, and wait until they have ended."""
        for child in (self._current, *self._next):
            if child:
                child.stop()

    def _fork(self) -> Child:
        port, send_port = FORKS.Pipe(duplex=False)
        settings = ServerSettings(
            models=(self.model,), port=0, engine=EngineSettings(slots=self.slots)
        )
        arguments = (settings, self.compiled, send_port)
        process = FORKS.Process(target=_serve, args=arguments, daemon=True)
        process.start()
        send_port.close()
        return Child(process, port)


@contextmanager
def killable_server(model: str, *, slots: int = 1, ahead: int = 1) -> Iterator[KillableServer]:
    """Services of `model`, to be started and killed; see KillableServer."""
    with tempfile.TemporaryDirectory() as compiled:
        server = KillableServer(model, compiled, slots, ahead)
        try:
            yield server
        finally:
            server.close()


def _serve(settings: ServerSettings, compiled: str, send_port: Connection) -> None:
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"
    asyncio.run(_until_killed(settings, send_port))


async def _until_killed(settings: ServerSettings, send_port: Connection) -> None:
    # It ends when the tests are killed, too.
    sentinel = multiprocessing.parent_process().sentinel
    asyncio.get_running_loop().add_reader(sentinel, os._exit, 1)
    async with running_server(settings) as server:
        send_port.send(server.port)
        await asyncio.Event().wait()
