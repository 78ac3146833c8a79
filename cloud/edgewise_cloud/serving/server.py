"""Starting the service, loading its model behind a closed door, and leaving in good order."""

import asyncio
import ipaddress
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edgewise_cloud.errors import ServeError
from edgewise_cloud.heavy import import_tensorflow
from edgewise_cloud.serving.answering import Answering
from edgewise_cloud.serving.requests import Observers
from edgewise_cloud.serving.service import GeneratorService
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine import Engine

SERVICE = pb.DESCRIPTOR.services_by_name["Generator"].full_name
# Everything a request may hold fits; 10 MB of ids does not.
MAX_REQUEST_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What to serve, where, and how much at once."""

    model: str = "tales"
    host: str = "127.0.0.1"
    port: int = 50051  # 0: any free one
    slots: int = 4  # requests running at once
    queue: int = 16  # requests waiting behind them
    grace: float = 10.0  # seconds for running streams to finish at shutdown


class Server:
    """The service behind a socket. `start` listens, `load` makes it SERVING, `drain` ends it."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self.answering = Answering(Observers())
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.so_reuseport", 0),  # a second server on the port must fail, not share it
            ]
        )

    async def start(self) -> int:
        """Listen, NOT_SERVING yet; the port. Raises ServeError when it cannot."""
        settings = self._settings
        _require_loopback(settings.host)
        pb_grpc.add_GeneratorServicer_to_server(GeneratorService(self.answering), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            port = self._server.add_insecure_port(f"{host}:{settings.port}")
        except RuntimeError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port}; is another program using it? "
                "Choose another --port (0 takes any free one)"
            ) from error
        await self._server.start()
        return port

    async def load(self) -> None:
        """Load and warm up the model, then serve. Raises SourceError."""
        self.answering.engine = await asyncio.to_thread(_load_engine, self._settings)
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Take no new requests, let running ones finish within the grace period, stop."""
        self.answering.draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(self._settings.grace)
        if self.answering.engine:
            await self.answering.engine.idle()

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


@asynccontextmanager
async def running_server(settings: ServerSettings) -> AsyncIterator[int]:
    """A server that listens, with its model loaded; yields its port."""
    server = Server(settings)
    port = await server.start()
    try:
        await server.load()
        yield port
    finally:
        await server.drain()


def _load_engine(settings: ServerSettings) -> "Engine":
    import_tensorflow()  # takes seconds: the socket is open by now, and the address was good
    from edgewise_cloud.serving.engine import Engine
    from edgewise_cloud.sources import load_keras

    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(settings.model, Path(workspace))
        engine = Engine(model, settings.slots, settings.queue)
    engine.warm_up()
    return engine


def _require_loopback(host: str) -> None:
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ServeError(
            f"refusing to listen on {host}: this service has neither TLS nor tokens yet, so only "
            "loopback addresses are allowed; use 127.0.0.1 behind a proxy that authenticates"
        )
