"""The engine as replicas of a Ray Serve deployment, on as many machines as Ray has."""

import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.observe.observers import Observing
from edgewise_cloud.serving.server.request_handler import Answering
from edgewise_cloud.serving.server.server import ServerSettings, load_engine
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from ray.serve import Application

# One such application to a Ray cluster: the proxies find it by these names.
APPLICATION, DEPLOYMENT = "edgewise", "Replica"
UPSCALE_DELAY = 10.0  # seconds of more requests than slots
CONSTRUCTOR_TRIES = 2  # a model that cannot be loaded does not get better


@dataclass(frozen=True, slots=True)
class Refusal:
    """A RefusedError on its way between processes: a value, since exceptions change on theirs."""

    code: grpc.StatusCode
    text: str
    retry_after: float | None

    def error(self) -> RefusedError:
        """What was refused, to be raised."""
        return RefusedError(self.code, self.text, retry_after=self.retry_after)


class Replica:
    """One engine. What it takes and gives are serialised messages, or a Refusal at the end."""

    def __init__(self, settings: ServerSettings) -> None:
        observing = Observing(settings.observing, lambda: self._answering.engine)
        observing.start()
        self._answering = Answering(observing)
        self._answering.engine = load_engine(settings.model, settings.engine)

    def model(self) -> bytes:
        """A GetModelResponse."""
        return self._answering.model().SerializeToString()

    def load(self) -> bytes:
        """A GetLoadResponse, of this replica."""
        return self._answering.load().SerializeToString()

    async def generate(
        self, message: bytes, name: str, left: float | None, trace: str | None
    ) -> AsyncGenerator[bytes | Refusal, None]:
        """GenerateResponses. `left`: seconds to the caller's deadline."""
        deadline = None if left is None else time.monotonic() + left
        caller = Caller(name=name, deadline=deadline, trace=trace)
        request = pb.GenerateRequest.FromString(message)
        try:
            async with aclosing(self._answering.generate(request, caller)) as responses:
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
    """What `serve.run` deploys: `replicas` at least and at most, as many as the queues ask for.

    `resources` are those of one replica, in Ray's words: num_cpus, num_gpus, resources.
    """
    engine = settings.engine
    fewest, most = replicas
    if not 1 <= fewest <= most:
        raise ServeError(f"cannot run {fewest} to {most} replicas; ask for 1 or more, in order")
    from ray import serve

    deployment = serve.deployment(
        Replica,
        name=DEPLOYMENT,
        # Serve never sends a replica more than it may hold: what is over waits at the proxies,
        # and goes to whichever replica has room first.
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

    These are `model`, `grace`, `engine` with EngineSettings' fields, `replicas` such as [1, 4],
    and `resources`.
    """
    arguments = dict(arguments)
    replicas = tuple(arguments.pop("replicas", (1, 1)))
    resources = arguments.pop("resources", None)
    engine = EngineSettings(**arguments.pop("engine", {}))
    settings = ServerSettings(engine=engine, **arguments)
    return application(settings, replicas=replicas, resources=resources)
