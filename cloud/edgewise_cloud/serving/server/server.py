"""The server's life: listen, load the model, serve, drain."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.errors import EngineDeadError, ServeError
from edgewise_cloud.serving.engine.load_engine import load_engine
from edgewise_cloud.serving.engine.load_engines import Load, load_engines
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.observers import ObserverSettings, ServiceObservers
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.server.delivery import service as delivery
from edgewise_cloud.serving.server.delivery.downloads import Downloads
from edgewise_cloud.serving.server.delivery.settings import DeliverySettings
from edgewise_cloud.serving.server.grpc_server import ConnectionLimits, grpc_server
from edgewise_cloud.serving.server.request_handler import RequestHandler
from edgewise_cloud.serving.server.service import GeneratorService
from edgewise_cloud.serving.types import Observer
from edgewise_proto import delivery_pb2_grpc
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

log = logging.getLogger("edgewise_cloud.serving.server")

_FLUSH_TIME = 1.0  # seconds for the last messages to reach their callers
SERVICE = pb.DESCRIPTOR.services_by_name["Generator"].full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What to serve, where, and how much at once."""

    models: tuple[str, ...] = ("tales",)
    host: str = "127.0.0.1"
    port: int = 50051  # 0: any free one
    engine: EngineSettings = field(default_factory=EngineSettings)  # of each model
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    grace: float = 10.0  # seconds for running streams to finish at shutdown
    observers: ObserverSettings = field(default_factory=ObserverSettings)
    security: Security = field(default_factory=Security)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)


class Server:
    """The service behind a socket: `start` listens, `load_models` makes it SERVING, `drain` ends it.

    `stop` is set when it should be drained: by its owner, or because an engine has died.
    The channel is served from `start` on: devices can update while models load.

    `load_engine` makes an engine; `observers` are called besides those of the settings. Raises
    ServeError for security that is not enough for the host, or files that cannot be used.
    """

    def __init__(
        self,
        settings: ServerSettings,
        *,
        load_engine: Load = load_engine,
        observers: Sequence[Observer] = (),
    ) -> None:
        settings.security.check(settings.host)
        settings.delivery.check()
        self._settings, self._load_engine = settings, load_engine
        self.observers = ServiceObservers(
            settings.observers, lambda: self.handler.engines, observers
        )
        self.handler = RequestHandler(self.observers)
        self.stop = asyncio.Event()
        self.port = settings.port
        self._health = health.aio.HealthServicer()
        self._credentials = settings.security.credentials()
        self._delivery = self._delivery_service()
        engine = settings.engine
        streams = len(settings.models) * (engine.slots + engine.queue) + settings.delivery.downloads
        self._server = grpc_server(streams, settings.security.interceptors(), settings.connections)

    async def start(self) -> int:
        """Listen, NOT_SERVING yet; the port, also in `port`. Raises ServeError."""
        settings = self._settings
        service = GeneratorService(self.handler, settings.connections.send_timeout)
        pb_grpc.add_GeneratorServicer_to_server(service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = [SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME]
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if self._delivery:
            delivery_pb2_grpc.add_DeliveryServicer_to_server(self._delivery, self._server)
            names.append(delivery.SERVICE)
            await self._health.set(delivery.SERVICE, health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection(names, self._server)
        try:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            self.port = self._open(f"{host}:{settings.port}")
        except RuntimeError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port}; is another program using it? "
                "Choose another --port (0 takes any free one)"
            ) from error
        self.observers.start()
        await self._server.start()
        if self._delivery:
            log.info("serving %s on port %d", settings.delivery.channel, self.port)
        return self.port

    async def load_models(self, progress: Progress = SILENT) -> None:
        """Load and warm up all models, then serve. Raises CheckpointError and ServeError."""
        settings, loop = self._settings, asyncio.get_running_loop()
        self.handler.engines = await asyncio.to_thread(
            load_engines, settings.models, settings.engine, progress, self._load_engine
        )
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)
        for engine in self.handler.engines:
            engine.died.add_done_callback(
                lambda _: asyncio.run_coroutine_threadsafe(self._leave_service(), loop)
            )

    async def _leave_service(self) -> None:
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.stop.set()

    async def drain(self) -> None:
        """Refuse new requests, let open ones finish within the grace period, stop.

        Those that do not finish end UNAVAILABLE, so that their callers continue elsewhere, and
        downloads at once: they go on at the byte where they stopped. Takes at most the grace period
        and some seconds, even if a step of the model hangs.
        """
        self.handler.draining = True
        if self._delivery:
            self._delivery.close()
            await self._health.set(delivery.SERVICE, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        if count := self.handler.open_requests:
            grace = self._settings.grace
            log.info("draining: %d open, with %g s to finish; Ctrl-C stops at once", count, grace)
        # Not gRPC's own grace period: an open health watch would use it up.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.grace):
                await self.handler.idle()
        for engine in self.handler.engines:
            await asyncio.to_thread(engine.close)
        await self._server.stop(_FLUSH_TIME)
        await self.observers.close()

    def _delivery_service(self) -> delivery.DeliveryService | None:
        settings = self._settings
        if settings.delivery.channel is None:
            return None
        downloads = Downloads(settings.delivery, settings.connections.send_timeout)
        return delivery.DeliveryService(
            settings.delivery.channel, downloads, self.observers.download_ended
        )

    def _open(self, address: str) -> int:
        if self._credentials:
            return self._server.add_secure_port(address, self._credentials)
        return self._server.add_insecure_port(address)

    async def _set_health(self, status: health_pb2.HealthCheckResponse.ServingStatus) -> None:
        for name in ("", SERVICE):
            await self._health.set(name, status)


@asynccontextmanager
async def running_server(
    settings: ServerSettings, progress: Progress = SILENT
) -> AsyncIterator[Server]:
    """A server with its models loaded, until the block ends. Raises EngineDeadError at the end."""
    server = Server(settings)
    await server.start()
    try:
        await server.load_models(progress)
        yield server
    finally:
        await server.drain()
    if any(engine.died.done() for engine in server.handler.engines):
        raise EngineDeadError("the model stopped working, see the log; start the service again")
