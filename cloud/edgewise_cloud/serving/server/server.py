"""Starting the service, loading its model behind a closed door, and leaving in good order."""

import asyncio
import gc
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from edgewise_cloud.errors import ServeError
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.observers import Observing, ObservingSettings
from edgewise_cloud.serving.security.settings import Security
from edgewise_cloud.serving.server.grpc_server import grpc_server
from edgewise_cloud.serving.server.request_handler import Answering
from edgewise_cloud.serving.server.service import GeneratorService
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine

LAST_WORDS = 1.0  # seconds for last messages to reach those who read them
SERVICE = pb.DESCRIPTOR.services_by_name["Generator"].full_name


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """What to serve, where, and how much at once."""

    model: str = "tales"
    host: str = "127.0.0.1"
    port: int = 50051  # 0: any free one
    engine: EngineSettings = field(default_factory=EngineSettings)
    grace: float = 10.0  # seconds for running streams to finish at shutdown
    observing: ObservingSettings = field(default_factory=ObservingSettings)
    security: Security = field(default_factory=Security)


class Server:
    """The service behind a socket. `start` listens, `load` makes it SERVING, `drain` ends it.

    Raises ServeError for security that is not enough for the host, or files that cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        settings.security.check(settings.host)
        self._settings = settings
        self.observing = Observing(settings.observing, lambda: self.answering.engine)
        self.answering = Answering(self.observing)
        self._health = health.aio.HealthServicer()
        self._credentials = settings.security.credentials()
        self._server = grpc_server(settings.engine, settings.security.interceptors())

    async def start(self) -> int:
        """Listen, NOT_SERVING yet; the port. Raises ServeError when it cannot."""
        settings = self._settings
        pb_grpc.add_GeneratorServicer_to_server(GeneratorService(self.answering), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        try:
            host = f"[{settings.host}]" if ":" in settings.host else settings.host
            port = self._open(f"{host}:{settings.port}")
        except RuntimeError as error:
            raise ServeError(
                f"cannot listen on {settings.host}:{settings.port}; is another program using it? "
                "Choose another --port (0 takes any free one)"
            ) from error
        self.observing.start()
        await self._server.start()
        return port

    async def load(self) -> None:
        """Load and warm up the model, then serve. Raises CheckpointError."""
        self.answering.engine = await asyncio.to_thread(
            load_engine, self._settings.model, self._settings.engine
        )
        await self._set_health(health_pb2.HealthCheckResponse.SERVING)

    async def drain(self) -> None:
        """Take no new requests, let present ones finish within the grace period, stop.

        What is cut off then ends UNAVAILABLE, so that its caller goes on elsewhere.
        """
        self.answering.draining = True
        await self._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        # Not by gRPC's own grace period: whoever watches the health would use it up.
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.grace):
                await self.answering.idle()
        if self.answering.engine:
            await asyncio.to_thread(self.answering.engine.close)
        await self._server.stop(LAST_WORDS)
        await self.observing.close()

    def _open(self, address: str) -> int:
        if self._credentials:
            return self._server.add_secure_port(address, self._credentials)
        return self._server.add_insecure_port(address)

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


def load_engine(source: str, settings: EngineSettings) -> "Engine":
    """The model `source` names, running. Raises CheckpointError."""
    import_tensorflow()  # takes seconds: the socket is open by now, and the address was good
    from edgewise_cloud.keras_models.checkpoint import weights
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import ServedModel

    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(source, Path(workspace))
    served = ServedModel(
        name=model.name,
        revision=model.revision,
        tokenizer=model.tokenizer,
        architecture=model.architecture,
    )
    values = weights(model.backbone)
    # TensorFlow keeps memory for itself: what Keras held is free for the engine only if it is
    # given back first.
    del model
    gc.collect()
    engine = Engine(served, values, settings)
    engine.start()
    return engine
