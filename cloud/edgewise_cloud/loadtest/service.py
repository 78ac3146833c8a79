"""Connecting to the service under test."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc

from edgewise_cloud.errors import LoadTestError, ServiceUnreachableError
from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT = 5.0  # seconds at most
MIN_CONNECT_TIMEOUT = 1.0  # seconds, with --wait 0 too
GET_MODEL_TIMEOUT = 10.0  # seconds
POLL_INTERVAL = 0.5  # seconds, while the model loads


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready: its model, a stub per connection, and the headers of each call."""

    model: pb.GetModelResponse
    stubs: "tuple[pb_grpc.GeneratorAsyncStub, ...]"
    metadata: tuple[tuple[str, str], ...]


@asynccontextmanager
async def connect(plan: LoadPlan) -> AsyncIterator[Service]:
    """Open the plan's connections and wait until the model is loaded. Raises LoadTestError.

    A ServiceUnreachableError where nothing answers, or the model is not loaded in time.
    """
    give_up = time.monotonic() + plan.wait
    timeout = min(max(plan.wait, MIN_CONNECT_TIMEOUT), CONNECT_TIMEOUT)
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(plan.security.open_channel(plan.address))
            for _ in range(plan.channels)
        ]
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            raise ServiceUnreachableError(
                f"nothing answers at {plan.target} within {timeout:g} s "
                f"{await _why_unreachable(channels[0], plan)}"
            ) from None
        stubs = tuple(pb_grpc.GeneratorStub(channel) for channel in channels)
        yield Service(await _wait_for_model(stubs[0], plan, give_up), stubs, plan.security.metadata)


async def _why_unreachable(channel: grpc.aio.Channel, plan: LoadPlan) -> str:
    reason = ""
    try:  # only a call says what is wrong with the connection
        await pb_grpc.GeneratorStub(channel).GetModel(pb.GetModelRequest(), timeout=1)
    except grpc.aio.AioRpcError as error:
        reason = (error.details() or "").rpartition("; ")[2]
    hint = (
        "does it serve with TLS, with a certificate for this host that --cloud-ca signed?"
        if plan.security.encrypted
        else "`edgewise-cloud serve` starts one; if it serves with TLS, add --cloud-ca"
    )
    return f"({reason}); is the service running? {hint}"


async def _wait_for_model(
    stub: "pb_grpc.GeneratorAsyncStub", plan: LoadPlan, give_up: float
) -> pb.GetModelResponse:
    while True:
        try:
            model = await stub.GetModel(
                pb.GetModelRequest(), timeout=GET_MODEL_TIMEOUT, metadata=plan.security.metadata
            )
            break
        except grpc.aio.AioRpcError as error:
            code, message = error.code(), error.details()
            if code is grpc.StatusCode.UNAUTHENTICATED:
                problem = "refuses the token" if plan.security.token else "asks for a token"
                raise LoadTestError(
                    f"{plan.target} {problem}: {message}; give one that 'edgewise-cloud token' made "
                    "for it, with --cloud-token-file or in EDGEWISE_CLOUD_TOKEN"
                ) from None
            if code is not grpc.StatusCode.UNAVAILABLE:
                raise ServiceUnreachableError(
                    f"{plan.target} answers {code.name}: {message}"
                ) from None
            if time.monotonic() + POLL_INTERVAL > give_up:
                raise ServiceUnreachableError(
                    f"{plan.target} is not ready after {plan.wait:g} s ({message}); raise --wait"
                ) from None
        await asyncio.sleep(POLL_INTERVAL)
    if not model.vocabulary_size:
        raise LoadTestError(f"{plan.target} serves a model without a vocabulary")
    return model
