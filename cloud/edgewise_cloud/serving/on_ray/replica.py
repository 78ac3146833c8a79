"""The engine as a Ray Serve deployment with replicas."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from edgewise_cloud.errors import EngineDeadError, ServeError
from edgewise_cloud.serving.engine.load_engine import load_engine
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.observers import ServiceObservers
from edgewise_cloud.serving.server.request_handler import RequestHandler
from edgewise_cloud.serving.server.server import ServerSettings
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from ray.serve import Application

# One application per Ray cluster: the proxies find it by these names.
APPLICATION, DEPLOYMENT = "edgewise", "Replica"
UPSCALE_DELAY = 10.0  # seconds with more requests than slots
CONSTRUCTOR_TRIES = 2  # more do not help a model that cannot be loaded


@dataclass(frozen=True, slots=True)
class Refusal:
    """A RefusedError between processes: a value, since Ray wraps exceptions."""

    code: grpc.StatusCode
    text: str
    retry_after: float | None

    def error(self) -> RefusedError:
        """The error to raise."""
        return RefusedError(self.code, self.text, retry_after=self.retry_after)


class Replica:
    """One engine. Its arguments and results are serialised messages, or a Refusal at the end."""

    def __init__(self, settings: ServerSettings) -> None:
        observers = ServiceObservers(settings.observers, lambda: self._handler.engines)
        observers.start()
        self._handler = RequestHandler(observers)
        self._handler.engines = (load_engine(settings.models[0], settings.engine),)

    def model(self) -> bytes:
        """A GetModelResponse."""
        return self._handler.model(pb.GetModelRequest()).SerializeToString()

    def get_load(self) -> bytes:
        """A GetLoadResponse, of this replica."""
        return self._handler.get_load(pb.GetLoadRequest()).SerializeToString()

    def check_health(self) -> None:
        """Called by Serve, which replaces a replica where it raises: here EngineDeadError."""
        if any(engine.died.done() for engine in self._handler.engines):
            raise EngineDeadError("the model stopped working")

    async def generate(
        self, message: bytes, name: str, time_left: float | None, trace: str | None
    ) -> AsyncGenerator[bytes | Refusal, None]:
        """GenerateResponses. `time_left`: seconds to the caller's deadline."""
        request = pb.GenerateRequest.FromString(message)
        answer = self._handler.generate(request, _caller(name, time_left, trace))
        async with aclosing(_serialized(answer)) as messages:
            async for each in messages:
                yield each

    async def score(
        self, message: bytes, name: str, time_left: float | None, trace: str | None
    ) -> AsyncGenerator[bytes | Refusal, None]:
        """ScoreResponses. `time_left` as above."""
        request = pb.ScoreRequest.FromString(message)
        answer = self._handler.score(request, _caller(name, time_left, trace))
        async with aclosing(_serialized(answer)) as messages:
            async for each in messages:
                yield each


def _caller(name: str, time_left: float | None, trace: str | None) -> Caller:
    deadline = None if time_left is None else time.monotonic() + time_left
    return Caller(name=name, deadline=deadline, trace=trace)


async def _serialized(answer: AsyncGenerator[Any, None]) -> AsyncGenerator[bytes | Refusal, None]:
    try:
        async with aclosing(answer) as responses:
            async for response in responses:
                yield response.SerializeToString()
    except RefusedError as refusal:
        yield Refusal(refusal.code, refusal.text, refusal.retry_after)


def application(
    settings: ServerSettings,
    *,
    replicas: tuple[int, int] = (1, 1),
    resources: Mapping[str, Any] | None = None,
) -> "Application":
    """The application for `serve.run`, scaled between the fewest and the most `replicas`.

    `resources` are ray_actor_options of one replica: num_cpus, num_gpus, resources.
    """
    engine = settings.engine
    fewest, most = replicas
    if not 1 <= fewest <= most:
        raise ServeError(
            f"cannot run {fewest} to {most} replicas; give at least 1, the fewest first"
        )
    if len(settings.models) != 1:
        raise ServeError(
            f"{len(settings.models)} models are given, and a service on Ray serves one; start one "
            "service for each, or use 'edgewise-cloud serve', which takes several"
        )
    if settings.delivery.channel:
        raise ServeError(
            f"--channel is {settings.delivery.channel}, and a service on Ray serves no channel; use "
            "'edgewise-cloud serve', or any static HTTP server"
        )
    from ray import serve

    deployment = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        # Serve never sends a replica more than this: the rest waits at the proxies, and goes to
        # the first replica with room.
        max_ongoing_requests=engine.slots + engine.queue,
        max_queued_requests=max(engine.queue, 1),
        autoscaling_config={
            "min_replicas": fewest,
            "max_replicas": most,
            "target_ongoing_requests": engine.slots,
            "upscale_delay_s": UPSCALE_DELAY,
        },
        graceful_shutdown_timeout_s=settings.grace,
        max_constructor_retry_count=CONSTRUCTOR_TRIES,
        ray_actor_options=dict(resources or {}),
    )
    bound: Application = deployment.bind(settings)
    return bound


def build(arguments: dict[str, Any]) -> "Application":
    """An application from a Serve config file's `args`.

    They are `model`, `grace`, `engine` with EngineSettings' fields, `replicas` such as [1, 4],
    and `resources`.
    """
    arguments = dict(arguments)
    replicas = tuple(arguments.pop("replicas", (1, 1)))
    resources = arguments.pop("resources", None)
    engine = EngineSettings(**arguments.pop("engine", {}))
    models = (arguments.pop("model", "tales"),)
    settings = ServerSettings(models=models, engine=engine, **arguments)
    return application(settings, replicas=replicas, resources=resources)
