"""From request messages to response messages, whatever carries them: gRPC's server or Ray Serve."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from edgewise_cloud.serving.redact import frames
from edgewise_cloud.serving.server.codec import FINISH_REASONS, token_request
from edgewise_cloud.serving.types import Caller, Observer, Outcome, RefusedError
from edgewise_edge.decoding.generate import FinishReason, TokenRequest
from edgewise_edge.errors import RequestError
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import Run

log = logging.getLogger("edgewise_cloud.serving.answering")


@dataclass(slots=True)
class _Progress:
    """What a request has come to so far."""

    arrived: float  # time.monotonic()
    request: TokenRequest | None = None
    run: "Run | None" = None
    first_token: float | None = None
    last_token: float | None = None
    generated: int = 0
    reason: FinishReason | None = None

    @property
    def started(self) -> float | None:
        """When work on it began."""
        return self.run.started if self.run else None


class Answering:
    """Answers requests with one engine, once it is there; until then, and while draining, refuses.

    Refusals are RefusedError. Everything runs on one event loop.
    """

    def __init__(self, observer: Observer) -> None:
        self.engine: Engine | None = None
        self.draining = False
        self._observer = observer
        self._answers = 0  # not ended yet
        self._idle = asyncio.Event()
        self._idle.set()

    def model(self) -> pb.GetModelResponse:
        """What is served. Raises RefusedError."""
        model = self._ready().model
        return pb.GetModelResponse(
            name=model.name,
            revision=model.revision,
            vocabulary=model.tokenizer.fingerprint,
            vocabulary_size=model.architecture.vocabulary_size,
            context_window=model.architecture.context_window,
        )

    def load(self) -> pb.GetLoadResponse:
        """How busy it is. Raises RefusedError."""
        load = self._ready().load()
        return pb.GetLoadResponse(
            slots=load.slots,
            running=load.running,
            queue=load.queue,
            waiting=load.waiting,
            tokens_per_second=load.tokens_per_second,
            expected_wait=load.expected_wait,
        )

    async def generate(
        self, message: pb.GenerateRequest, caller: Caller
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """A message for each new token, and a last one. Closing it, or cancelling, stops the work."""
        arrived, progress = time.time(), _Progress(time.monotonic())
        code = grpc.StatusCode.CANCELLED
        self._count(1)
        try:
            engine = self._ready()
            progress.request = _accept(engine, message)
            answer = self._answer(engine, progress.request, caller, progress)
            async with aclosing(answer) as responses:
                async for response in responses:
                    yield response
            code = grpc.StatusCode.OK
        except RefusedError as refusal:
            code = refusal.code
            raise
        except Exception as error:  # its text is for the log, not for the caller
            log.error("generation failed\n%s", frames(error))  # noqa: TRY400
            code = grpc.StatusCode.INTERNAL
            raise RefusedError(code, "the service failed; see its log") from error
        finally:
            if code is grpc.StatusCode.CANCELLED:
                code = _kind_of_end(progress, caller)
            self._count(-1)
            self._observer.ended(_outcome(progress, caller, code, arrived))

    async def idle(self) -> None:
        """Return when no request is being answered."""
        await self._idle.wait()

    def _count(self, more: int) -> None:
        self._answers += more
        if self._answers:
            self._idle.clear()
        else:
            self._idle.set()

    def _ready(self) -> "Engine":
        if self.draining:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
        if self.engine is None:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the model is still loading")
        return self.engine

    async def _answer(
        self, engine: "Engine", request: TokenRequest, caller: Caller, progress: _Progress
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        position = request.position
        async with engine.run(request, caller) as run:
            progress.run = run
            async for token, moment in run:
                last = progress.last_token
                self._observer.token(None if last is None else moment - last)
                progress.first_token = progress.first_token or moment
                progress.last_token = moment
                progress.generated += 1
                if token in request.end_ids:
                    progress.reason = FinishReason.STOP
                elif progress.generated == request.max_tokens:
                    progress.reason = FinishReason.LENGTH
                response = pb.GenerateResponse(position=position, token_ids=[token])
                if progress.generated == 1:  # who has all its tokens may not wait for the end
                    response.timings.queued = (progress.started or moment) - progress.arrived
                yield response
                position += 1
        yield _last(request, progress.reason or FinishReason.LENGTH, position, progress)


def _accept(engine: "Engine", message: pb.GenerateRequest) -> TokenRequest:
    """Check everything that can be checked before any work. Raises RefusedError."""
    model = engine.model
    if message.vocabulary != model.tokenizer.fingerprint:
        raise RefusedError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"the caller's vocabulary is not that of the model served here, '{model.name}'; "
            "use the same model on both sides",
        )
    try:
        request = token_request(message)
        request.check(model.architecture.context_window, model.architecture.vocabulary_size)
        request.require_room(model.architecture.context_window)
    except RequestError as error:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
    if max(request.end_ids, default=0) >= model.architecture.vocabulary_size:
        raise RefusedError(
            grpc.StatusCode.INVALID_ARGUMENT, "an end token id is not in the vocabulary"
        )
    return request


def _kind_of_end(progress: _Progress, caller: Caller) -> grpc.StatusCode:
    """What it means that the caller is gone."""
    if progress.reason:
        return grpc.StatusCode.OK  # who has the last token need not wait for the last message
    if caller.late(time.monotonic()):
        return grpc.StatusCode.DEADLINE_EXCEEDED  # which looks no different to a handler
    return grpc.StatusCode.CANCELLED


def _last(
    request: TokenRequest, reason: FinishReason, position: int, progress: _Progress
) -> pb.GenerateResponse:
    ended = time.monotonic()
    return pb.GenerateResponse(
        position=position,
        finish_reason=FINISH_REASONS[reason],
        usage=pb.Usage(
            prompt_tokens=request.prompt_tokens, completion_tokens=position - request.prompt_tokens
        ),
        timings=pb.Timings(
            queued=(progress.started or ended) - progress.arrived,
            time_to_first_token=(progress.first_token or ended) - progress.arrived,
            total=ended - progress.arrived,
        ),
    )


def _outcome(progress: _Progress, caller: Caller, code: grpc.StatusCode, arrived: float) -> Outcome:
    def since(moment: float | None) -> float | None:
        return None if moment is None else moment - progress.arrived

    return Outcome(
        caller=caller,
        code=code,
        arrived=arrived,
        total=time.monotonic() - progress.arrived,
        prompt_tokens=progress.request.position if progress.request else 0,
        reused_tokens=progress.run.reused if progress.run else 0,
        generated_tokens=progress.generated,
        queued=since(progress.started),
        time_to_first_token=since(progress.first_token),
        finish_reason=progress.reason.value if progress.reason else None,
    )
