"""All replicas as if they were one."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from edgewise_cloud.serving.on_ray.replica import APPLICATION, DEPLOYMENT, Refusal
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

Response = TypeVar("Response")

ATTEMPTS = 3  # a request that kills its replica must not kill all of them
RETRY_AFTER = 1.0  # seconds, when the proxy's own queue is full
BROADCAST_TIMEOUT = 0.5  # seconds; slower replicas are left out


class Replicas:
    """Answers as RequestHandler does, by asking the replicas. Refusals are RefusedError."""

    def __init__(self, handle: "DeploymentHandle[Any] | None" = None) -> None:
        # Not serve.get_deployment_handle, which asks the controller and blocks the proxy.
        self._handle = handle or DeploymentHandle(DEPLOYMENT, APPLICATION)

    async def model(self) -> pb.GetModelResponse:
        """What is served, according to any replica."""
        return pb.GetModelResponse.FromString((await self._call_all("model"))[0])

    async def get_load(self) -> pb.GetLoadResponse:
        """Their load together; the wait is that of the least busy one."""
        loads = [pb.GetLoadResponse.FromString(load) for load in await self._call_all("get_load")]
        return pb.GetLoadResponse(
            slots=sum(load.slots for load in loads),
            running=sum(load.running for load in loads),
            queue=sum(load.queue for load in loads),
            waiting=sum(load.waiting for load in loads),
            tokens_per_second=sum(load.tokens_per_second for load in loads),
            expected_wait=min(load.expected_wait for load in loads),
        )

    def generate(
        self, message: pb.GenerateRequest, caller: Caller
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """One replica's answer; if it is lost before its first message, another one's.

        Closing or cancelling it stops the work.
        """
        return self._answer("generate", message, pb.GenerateResponse.FromString, caller)

    def score(
        self, message: pb.ScoreRequest, caller: Caller
    ) -> AsyncGenerator[pb.ScoreResponse, None]:
        """As `generate`."""
        return self._answer("score", message, pb.ScoreResponse.FromString, caller)

    async def _answer(
        self,
        method: str,
        message: pb.GenerateRequest | pb.ScoreRequest,
        parse: Callable[[bytes], Response],
        caller: Caller,
    ) -> AsyncGenerator[Response, None]:
        request = message.SerializeToString()
        for attempt in range(1, ATTEMPTS + 1):
            started = False
            try:
                async with aclosing(self._call_one(method, request, caller)) as responses:
                    async for response in responses:
                        started = True
                        yield parse(response)
                return
            except RayError as error:
                if started or attempt == ATTEMPTS:
                    raise _lost() from error

    async def _call_one(
        self, method: str, request: bytes, caller: Caller
    ) -> AsyncGenerator[bytes, None]:
        time_left = None if caller.deadline is None else caller.deadline - time.monotonic()
        handle = self._handle.options(method_name=method, stream=True)
        items = handle.remote(request, caller.name, time_left, caller.trace)
        try:
            async for item in items:
                if isinstance(item, Refusal):
                    raise item.error()
                yield item
        except BackPressureError as error:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", retry_after=RETRY_AFTER
            ) from error
        except DeploymentUnavailableError as error:
            raise _no_replica() from error
        except RayTaskError as error:  # RequestHandler raises none: a bug
            raise RefusedError(
                grpc.StatusCode.INTERNAL, "the model failed; see the service's log"
            ) from error
        except (asyncio.CancelledError, GeneratorExit):  # the caller is gone
            items.cancel()
            raise

    async def _call_all(self, method: str) -> list[bytes]:
        """The answers of all replicas that answer in time, at least one. Raises RefusedError."""
        # Not an ordinary call: that would wait in their queues. And not the broadcast's own
        # results(), which waits for all replicas, also for one on a machine that is gone.
        sent = self._handle.broadcast(method)._fetch_replica_results_async()  # noqa: SLF001
        try:
            replicas = await asyncio.wait_for(sent, BROADCAST_TIMEOUT)
        except (DeploymentUnavailableError, TimeoutError) as error:
            raise _no_replica() from error
        answers = [asyncio.ensure_future(replica.get_async()) for replica in replicas]
        done, slow = await asyncio.wait(answers, timeout=BROADCAST_TIMEOUT)
        for answer in slow:
            answer.cancel()
        results = [answer.result() for answer in done if not answer.exception()]
        if not results:
            raise _no_replica()
        return results


def _lost() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the replica that answered was lost")


def _no_replica() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "no replica of the model is ready")
