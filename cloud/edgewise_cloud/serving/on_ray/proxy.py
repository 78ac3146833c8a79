"""The Generator service in Ray Serve's gRPC proxies, in front of the replicas.

Serve could route calls to the replicas itself, but then a lost replica is INTERNAL, a refusal loses
its RetryInfo, a deadline does not reach the engine, and nothing is retried. So the whole service is
added to Serve's proxies, as `grpc_servicer_functions`.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from edgewise_cloud.serving.on_ray.replicas import Replicas
from edgewise_cloud.serving.server.grpc_server import MAX_REQUEST_BYTES
from edgewise_cloud.serving.server.server import SERVICE
from edgewise_cloud.serving.server.service import caller_of, refuse
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from edgewise_cloud.serving.server.service import Context

Add: TypeAlias = Callable[[object, Any], None]

LOOPBACK = ("ipv4:127.", "ipv6:%5B::1%5D:", "unix:")


def add_for_loopback(_servicer: object, server: Any) -> None:
    """Serve callers on this machine, such as a proxy that terminates TLS; refuse others."""
    _add(server, LOOPBACK)


def add_for_all(_servicer: object, server: Any) -> None:
    """Serve everyone who can connect, in clear text."""
    _add(server, ("",))


def _add(server: Any, peers: tuple[str, ...]) -> None:
    for name in (SERVICE, health.SERVICE_NAME):
        server.add_passthrough_service(name)  # or Serve replaces our handlers by its own
    replicas = Replicas()
    pb_grpc.add_GeneratorServicer_to_server(ProxyService(replicas, peers), server)
    health_pb2_grpc.add_HealthServicer_to_server(ProxyHealth(replicas), server)


class ProxyService(pb_grpc.GeneratorServicer):
    """Carries messages between gRPC and the replicas, for peers that start with one of `peers`."""

    def __init__(self, replicas: Replicas, peers: tuple[str, ...]) -> None:
        self._replicas, self._peers = replicas, peers

    async def GetModel(
        self, request: pb.GetModelRequest, context: "Context"
    ) -> pb.GetModelResponse:
        """See generation.proto."""
        try:
            self._admit(request, context)
            return await self._replicas.model()
        except RefusedError as refusal:
            await refuse(context, refusal)

    async def GetLoad(self, request: pb.GetLoadRequest, context: "Context") -> pb.GetLoadResponse:
        """See generation.proto."""
        try:
            self._admit(request, context)
            return await self._replicas.get_load()
        except RefusedError as refusal:
            await refuse(context, refusal)

    async def Generate(  # type: ignore[override]  # the form that calls context.write
        self, request: pb.GenerateRequest, context: "Context"
    ) -> None:
        """See generation.proto."""
        await self._stream(self._replicas.generate, request, context)

    async def Score(  # type: ignore[override]  # as above
        self, request: pb.ScoreRequest, context: "Context"
    ) -> None:
        """See generation.proto."""
        await self._stream(self._replicas.score, request, context)

    async def _stream(
        self,
        answer: Callable[[Any, Caller], AsyncGenerator[Any, None]],
        request: Any,
        context: "Context",
    ) -> None:
        try:
            self._admit(request, context)
            # Not a plain loop: a call cancelled while it writes must stop the computation now.
            async with aclosing(answer(request, caller_of(context))) as responses:
                async for response in responses:
                    await context.write(response)
        except RefusedError as refusal:
            await refuse(context, refusal)

    def _admit(self, request: Any, context: "Context") -> None:
        if not context.peer().startswith(self._peers):
            raise RefusedError(
                grpc.StatusCode.PERMISSION_DENIED,
                "only callers on the service's own machine are admitted",
            )
        if request.ByteSize() > MAX_REQUEST_BYTES:  # the proxy's own limit is much higher
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"the request is larger than {MAX_REQUEST_BYTES} bytes",
            )


class ProxyHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # ships no types
    """SERVING while a replica answers. Watch is not implemented, as health v1 allows."""

    def __init__(self, replicas: Replicas) -> None:
        self._replicas = replicas

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """See grpc.health.v1."""
        if request.service not in {"", SERVICE}:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service")
        try:
            await self._replicas.get_load()
        except RefusedError:
            status = health_pb2.HealthCheckResponse.NOT_SERVING
        else:
            status = health_pb2.HealthCheckResponse.SERVING
        return health_pb2.HealthCheckResponse(status=status)
