"""Connecting to the service under test."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import grpc

from edgewise_cloud.errors import LoadTestError
from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT = 5.0  # seconds
GET_MODEL_TIMEOUT = 10.0  # seconds
POLL_INTERVAL = 0.5  # seconds, while the model loads


@dataclass(frozen=True, slots=True)
class Service:
    """A service that is ready: its model, and a stub per connection."""

    model: pb.GetModelResponse
    stubs: "tuple[pb_grpc.GeneratorAsyncStub, ...]"


def open_channel(target: str) -> grpc.aio.Channel:
    """Open a channel with a connection of its own, without proxies and retries."""
    return grpc.aio.insecure_channel(
        target,
        options=[
            ("grpc.enable_http_proxy", 0),
            ("grpc.enable_retries", 0),  # every error is to be counted
            # Otherwise channels to the same target share one connection.
            ("grpc.use_local_subchannel_pool", 1),
        ],
    )


@asynccontextmanager
async def connect(plan: LoadPlan) -> AsyncIterator[Service]:
    """Open the plan's connections and wait until the model is loaded. Raises LoadTestError."""
    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(open_channel(plan.target)) for _ in range(plan.channels)
        ]
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await asyncio.gather(*(channel.channel_ready() for channel in channels))
        except TimeoutError:
            raise LoadTestError(
                f"nothing answers at {plan.target} within {CONNECT_TIMEOUT:.0f} s; is the service "
                "running? `edgewise-cloud serve` starts one"
            ) from None
        stubs = tuple(pb_grpc.GeneratorStub(channel) for channel in channels)
        yield Service(await _wait_for_model(stubs[0], plan), stubs)


async def _wait_for_model(
    stub: "pb_grpc.GeneratorAsyncStub", plan: LoadPlan
) -> pb.GetModelResponse:
    give_up = time.monotonic() + plan.wait
    while True:
        try:
            model = await stub.GetModel(pb.GetModelRequest(), timeout=GET_MODEL_TIMEOUT)
            break
        except grpc.aio.AioRpcError as error:
            code, message = error.code(), error.details()
            if code is not grpc.StatusCode.UNAVAILABLE:
                raise LoadTestError(f"{plan.target} answers {code.name}: {message}") from None
            if time.monotonic() + POLL_INTERVAL > give_up:
                raise LoadTestError(
                    f"{plan.target} is not ready after {plan.wait:g} s ({message}); raise --wait"
                ) from None
        await asyncio.sleep(POLL_INTERVAL)
    if not model.vocabulary_size:
        raise LoadTestError(f"{plan.target} serves a model without a vocabulary")
    return model
