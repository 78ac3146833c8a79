"""The Generator service: requests in, tokens out, and nothing running that nobody waits for."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, NoReturn, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from edgewise_cloud.slots import Slots, SlotsFullError
from edgewise_cloud.wire import FINISH_REASONS, token_request
from edgewise_edge.errors import RequestError
from edgewise_edge.generation import FinishReason, TokenRequest
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

log = logging.getLogger(__name__)

RETRY_AFTER = 1  # seconds

if TYPE_CHECKING:
    from edgewise_cloud.engine import Engine

    # Generic for the type checker alone.
    Context: TypeAlias = grpc.aio.ServicerContext[pb.GenerateRequest, pb.GenerateResponse]


class GeneratorService(pb_grpc.GeneratorServicer):
    """Serves one engine, once it is there; until then, and while draining, it is UNAVAILABLE."""

    def __init__(self, slots: Slots, threads: int) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self._slots = slots
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="generate")

    async def GetModel(
        self, request: pb.GetModelRequest, context: "Context"
    ) -> pb.GetModelResponse:
        """See generation.proto."""
        model = (await self._ready(context)).model
        return pb.GetModelResponse(
            name=model.name,
            revision=model.revision,
            vocabulary=model.tokenizer.fingerprint,
            vocabulary_size=model.architecture.vocabulary_size,
            context_window=model.architecture.context_window,
        )

    async def Generate(  # type: ignore[override]  # the form that writes for itself
        self, request: pb.GenerateRequest, context: "Context"
    ) -> None:
        """See generation.proto."""
        arrived = time.monotonic()
        engine = await self._ready(context)
        tokens_wanted = await self._accept(engine, request, context)
        try:
            async with self._slots.slot():
                await self._run(engine, tokens_wanted, arrived, context)
        except SlotsFullError:
            await _refuse_full(context)
        except Exception:  # whatever it is: its text is for the log, not for the caller
            log.exception("generation failed")
            await context.abort(grpc.StatusCode.INTERNAL, "the model failed; see the service's log")

    async def _ready(self, context: "Context") -> "Engine":
        if self.draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
        if self.engine is None:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the model is still loading")
        return self.engine

    async def _accept(
        self, engine: "Engine", message: pb.GenerateRequest, context: "Context"
    ) -> TokenRequest:
        """Check everything that can be checked before any work."""
        model = engine.model
        if message.vocabulary != model.tokenizer.fingerprint:
            await context.abort(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the caller's vocabulary is not that of the model served here, '{model.name}'; "
                "use the same model on both sides",
            )
        try:
            request = token_request(message)
            request.check(model.architecture.context_window, model.architecture.vocabulary_size)
            request.require_room(model.architecture.context_window)
        except RequestError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        return request

    async def _run(
        self, engine: "Engine", request: TokenRequest, arrived: float, context: "Context"
    ) -> None:
        started = time.monotonic()
        first_token_at: float | None = None
        position, reason = request.position, FinishReason.LENGTH
        # Not a plain loop: a call cancelled while it writes must end the computation now.
        async with aclosing(self._tokens(engine, request)) as tokens:
            async for token in tokens:
                first_token_at = first_token_at or time.monotonic()
                await context.write(pb.GenerateResponse(position=position, token_ids=[token]))
                position += 1
                if token in request.end_ids:
                    reason = FinishReason.STOP
        ended = time.monotonic()
        usage = pb.Usage(
            prompt_tokens=request.prompt_tokens, completion_tokens=position - request.prompt_tokens
        )
        timings = pb.Timings(
            queued=started - arrived,
            time_to_first_token=(first_token_at or ended) - arrived,
            total=ended - arrived,
        )
        await context.write(
            pb.GenerateResponse(
                position=position,
                finish_reason=FINISH_REASONS[reason],
                usage=usage,
                timings=timings,
            )
        )

    async def _tokens(self, engine: "Engine", request: TokenRequest) -> AsyncGenerator[int, None]:
        """The engine's tokens, computed on a thread; leaving early stops the computation."""
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[int | None] = asyncio.Queue()
        abandoned = threading.Event()

        def work() -> None:
            try:
                with closing(engine.generate(request, abandoned)) as tokens:
                    for token in tokens:
                        loop.call_soon_threadsafe(queue.put_nowait, token)
            finally:
                loop.call_soon_threadsafe(queue.put_nowait, None)

        worker = loop.run_in_executor(self._pool, work)
        try:
            while (token := await queue.get()) is not None:
                yield token
            await worker
        finally:
            abandoned.set()
            await asyncio.wait([worker])  # the slot is free when its thread is


async def _refuse_full(context: "Context") -> NoReturn:
    retry = AnyMessage()
    retry.Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_AFTER)))
    code, text = grpc.StatusCode.RESOURCE_EXHAUSTED, "every slot is taken and the queue is full"
    status = Status(code=code.value[0], message=text, details=[retry])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, text, trailing_metadata=metadata)
