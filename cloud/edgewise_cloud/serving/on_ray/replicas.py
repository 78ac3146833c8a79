"""All replicas, asked as if they were one."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import grpc
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle

from edgewise_cloud.serving.on_ray.replica import APPLICATION, DEPLOYMENT, Refusal
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_proto import generation_pb2 as pb

ATTEMPTS = 3  # a request that kills its replica shall not kill them all
RETRY_AFTER = 1.0  # seconds, when the proxy's own queue is full
ASK_ALL_TIMEOUT = 0.5  # seconds; who needs longer is left out


class Replicas:
    """Answers as `Answering` does, by asking the replicas. Refusals are RefusedError."""

    def __init__(self, handle: "DeploymentHandle[Any] | None" = None) -> None:
        # Not serve.get_deployment_handle, which asks the controller and blocks the proxy.
        self._handle = handle or DeploymentHandle(DEPLOYMENT, APPLICATION)

    async def model(self) -> pb.GetModelResponse:
        """What is served, in the words of any replica."""
        return pb.GetModelResponse.FromString((await self._ask_all("model"))[0])

    async def load(self) -> pb.GetLoadResponse:
        """How busy they are together; the wait is that for the least busy one."""
        loads = [pb.GetLoadResponse.FromString(load) for load in await self._ask_all("load")]
        return pb.GetLoadResponse(
            slots=sum(load.slots for load in loads),
            running=sum(load.running for load in loads),
            queue=sum(load.queue for load in loads),
            waiting=sum(load.waiting for load in loads),
            tokens_per_second=sum(load.tokens_per_second for load in loads),
            expected_wait=min(load.expected_wait for load in loads),
        )

    async def generate(
        self, message: pb.GenerateRequest, caller: Caller
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """What one replica answers; if it is lost before its first word, another is asked.

        Closing it, or cancelling, stops the work.
        """
        request = message.SerializeToString()
        for attempt in range(1, ATTEMPTS + 1):
            begun = False
            try:
                async with aclosing(self._ask_one(request, caller)) as responses:
                    async for response in responses:
                        begun = True
                        yield response
                return
            except RayError as error:
                if begun or attempt == ATTEMPTS:
                    raise _lost() from error

    async def _ask_one(
        self, request: bytes, caller: Caller
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        left = None if caller.deadline is None else caller.deadline - time.monotonic()
        handle = self._handle.options(method_name="generate", stream=True)
        items = handle.remote(request, caller.name, left, caller.trace)
        try:
            async for item in items:
                if isinstance(item, Refusal):
                    raise item.error()
                yield pb.GenerateResponse.FromString(item)
        except BackPressureError as error:
            raise RefusedError(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", retry_after=RETRY_AFTER
            ) from error
        except DeploymentUnavailableError as error:
            raise _none_there() from error
        except RayTaskError as error:  # Answering lets none through: a fault of this code
            raise RefusedError(
                grpc.StatusCode.INTERNAL, "the model failed; see the service's log"
            ) from error
        except (asyncio.CancelledError, GeneratorExit):  # nobody waits for it any more
            items.cancel()
            raise

    async def _ask_all(self, method: str) -> list[bytes]:
        """The answers of those that give one soon, of one at least. Raises RefusedError."""
        # Not a request like others: that would wait in their queue. And not the broadcast's own
        # results(), which has none while one replica, on a machine that is gone, says nothing.
        asked = self._handle.broadcast(method)._fetch_replica_results_async()  # noqa: SLF001
        try:
            replicas = await asyncio.wait_for(asked, ASK_ALL_TIMEOUT)
        except (DeploymentUnavailableError, TimeoutError) as error:
            raise _none_there() from error
        answers = [asyncio.ensure_future(replica.get_async()) for replica in replicas]
        done, late = await asyncio.wait(answers, timeout=ASK_ALL_TIMEOUT)
        for answer in late:
            answer.cancel()
        given = [answer.result() for answer in done if not answer.exception()]
        if not given:
            raise _none_there()
        return given


def _lost() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the replica that answered was lost")


def _none_there() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "no replica of the model is ready")
