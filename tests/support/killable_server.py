"""A real cloud service in a process of its own that can be killed, over and over, within minutes.

Importing TensorFlow takes four seconds and compiling three. So each service is forked from a
process that has imported TensorFlow but run nothing (forked after a first computation, its threads
would be missing and the child hang), and finds what the first one compiled in XLA's own cache:
1.5 seconds from the fork to the first token.
"""

import asyncio
import multiprocessing
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.server.server import ServerSettings, running_server

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [f"edgewise_cloud.{name}" for name in ("serving.server", "serving.engine", "sources")]
)


@dataclass
class Child:
    """One life of the service."""

    process: BaseProcess
    said: Connection  # its port, once it serves

    def address(self) -> str:
        """HOST:PORT, once it serves."""
        try:
            return f"127.0.0.1:{self.said.recv()}"
        except EOFError as error:
            raise RuntimeError("the service ended before it served; see its traceback") from error

    def bury(self) -> None:
        """Kill it, and wait until it has gone."""
        self.process.kill()
        self.process.join()
        self.said.close()


@dataclass
class KillServer:
    """Services of one model, one after the other, each at a port of its own.

    While one is used, `ahead` others get ready. Who wants one address for all of them puts a
    fault_proxy before them.
    """

    model: str
    compiled: str  # folder for XLA's programs
    slots: int
    ahead: int
    _present: Child | None = None
    _next: deque[Child] = field(default_factory=deque)

    def start(self) -> str:
        """The address of a new service that serves; the one before is no more."""
        if self._present:
            self._present.bury()
        while len(self._next) < 1 + self.ahead:
            self._next.append(self._fork())
        self._present = self._next.popleft()
        return self._present.address()

    def kill(self) -> None:
        """Send the service SIGKILL, and go on at once."""
        self._present.process.kill()

    def close(self) -> None:
        """Kill all, and wait until they have gone."""
        for child in (self._present, *self._next):
            if child:
                child.bury()

    def _fork(self) -> Child:
        said, saying = FORKS.Pipe(duplex=False)
        settings = ServerSettings(model=self.model, port=0, engine=EngineSettings(slots=self.slots))
        process = FORKS.Process(target=_serve, args=(settings, self.compiled, saying), daemon=True)
        process.start()
        saying.close()
        return Child(process, said)


@contextmanager
def kill_server(model: str, *, slots: int = 1, ahead: int = 1) -> Iterator[KillServer]:
    """Services of `model`, to be started and killed; see KillServer."""
    with tempfile.TemporaryDirectory() as compiled:
        server = KillServer(model, compiled, slots, ahead)
        try:
            yield server
        finally:
            server.close()


def _serve(settings: ServerSettings, compiled: str, saying: Connection) -> None:
    os.environ["TF_XLA_FLAGS"] = f"--tf_xla_persistent_cache_directory={compiled}"
    asyncio.run(_until_killed(settings, saying))


async def _until_killed(settings: ServerSettings, saying: Connection) -> None:
    # Should the tests themselves be killed, it ends too.
    sentinel = multiprocessing.parent_process().sentinel
    asyncio.get_running_loop().add_reader(sentinel, os._exit, 1)
    async with running_server(settings) as port:
        saying.send(port)
        await asyncio.Event().wait()
