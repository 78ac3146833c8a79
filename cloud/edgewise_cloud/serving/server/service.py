"""The Generator service on gRPC's asyncio server."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from edgewise_cloud.serving.security.settings import caller_name
from edgewise_cloud.serving.server.request_handler import RequestHandler
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    # Generic for the type checker only.
    Context: TypeAlias = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]
    AnyContext: TypeAlias = grpc.aio.ServicerContext[Any, Any]


class GeneratorService(pb_grpc.GeneratorServicer):
    """Carries messages between gRPC and a RequestHandler.

    `send_timeout`: seconds for which an answer is kept for a caller that does not read it.
    """

    def __init__(self, handler: RequestHandler, send_timeout: float) -> None:
        self._handler = handler
        self._send_timeout = send_timeout

    async def GetModel(
        self, request: pb.GetModelRequest, context: "Context"
    ) -> pb.GetModelResponse:
        """See generation.proto."""
        try:
            return self._handler.model(request)
        except RefusedError as refusal:
            await refuse(context, refusal)

    async def GetLoad(self, request: pb.GetLoadRequest, context: "Context") -> pb.GetLoadResponse:
        """See generation.proto."""
        try:
            return self._handler.get_load(request)
        except RefusedError as refusal:
            await refuse(context, refusal)

    async def Generate(  # type: ignore[override]  # the form that calls context.write
        self, request: pb.GenerateRequest, context: "Context"
    ) -> None:
        """See generation.proto."""
        await self._stream(self._handler.generate(request, caller_of(context)), context)

    async def Score(  # type: ignore[override]  # as above
        self, request: pb.ScoreRequest, context: "Context"
    ) -> None:
        """See generation.proto."""
        await self._stream(self._handler.score(request, caller_of(context)), context)

    async def _stream(self, answer: AsyncGenerator[Any, None], context: "Context") -> None:
        try:
            # Not a plain loop: a call cancelled while it writes must stop the computation now.
            async with aclosing(answer) as responses:
                async for response in responses:
                    await self._write(context, response)
        except RefusedError as refusal:
            await refuse(context, refusal)

    async def _write(self, context: "Context", response: Any) -> None:
        """Send a message, when there is room for it. Raises RefusedError."""
        try:
            async with asyncio.timeout(self._send_timeout):
                await context.write(response)
        except TimeoutError as error:
            raise RefusedError(
                grpc.StatusCode.UNAVAILABLE, "the answer was not read, and is not kept any longer"
            ) from error


def caller_of(context: "Context") -> Caller:
    """The caller, with its deadline and trace."""
    time_left = context.time_remaining()
    metadata = dict(context.invocation_metadata() or ())
    return Caller(
        name=caller_name(context),
        deadline=None if time_left is None else time.monotonic() + time_left,
        trace=str(metadata["traceparent"]) if "traceparent" in metadata else None,
    )


async def refuse(context: "AnyContext", refusal: RefusedError) -> NoReturn:
    """End the call with the refusal's code, text and details."""
    await context.abort(refusal.code, refusal.text, trailing_metadata=details(refusal))


def details(refusal: RefusedError) -> tuple[tuple[str, bytes], ...]:
    """Trailing metadata that tells clients when to retry (google.rpc.RetryInfo)."""
    if refusal.retry_after is None:
        return ()
    delay = Duration()
    delay.FromNanoseconds(round(refusal.retry_after * 1e9))
    retry = AnyMessage()
    retry.Pack(RetryInfo(retry_delay=delay))
    status = Status(code=refusal.code.value[0], message=refusal.text, details=[retry])
    return (("grpc-status-details-bin", status.SerializeToString()),)
