"""From request messages to response messages, for gRPC's server and for Ray Serve."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from edgewise_cloud.serving.redact import redacted_traceback
from edgewise_cloud.serving.server.codec import FINISH_REASONS, token_request
from edgewise_cloud.serving.types import Caller, Observer, RefusedError, RequestOutcome
from edgewise_edge.decoding.generate import FinishReason, TokenRequest
from edgewise_edge.errors import RequestError
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import EngineRequest

log = logging.getLogger("edgewise_cloud.serving.answering")


@dataclass(slots=True)
class _Progress:
    """What has happened to a request so far. Times are on time.monotonic()'s clock."""

    arrived_at: float
    request: TokenRequest | None = None
    model: str | None = None
    submitted: "EngineRequest | None" = None
    first_token_at: float | None = None
    last_token_at: float | None = None
    generated: int = 0
    reason: FinishReason | None = None

    @property
    def started_at(self) -> float | None:
        """When work on it began."""
        return self.submitted.started_at if self.submitted else None


class RequestHandler:
    """Answers requests with its engines; refuses them until there are some, and while draining.

    Several engines have different vocabularies; the request's fingerprint chooses the one that
    answers, and where none is given, the first does. Refusals are RefusedError. Everything runs on one event loop.
    """

    def __init__(self, observer: Observer) -> None:
        self.engines: tuple[Engine, ...] = ()  # once all are loaded
        self.draining = False
        self._observer = observer
        self.open_requests = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def model(self, message: pb.GetModelRequest) -> pb.GetModelResponse:
        """What is served. Raises RefusedError."""
        model = self._asked(message.vocabulary).model
        return pb.GetModelResponse(
            name=model.name,
            revision=model.revision,
            vocabulary=model.tokenizer.fingerprint,
            vocabulary_size=model.architecture.vocabulary_size,
            context_window=model.architecture.context_window,
        )

    def get_load(self, message: pb.GetLoadRequest) -> pb.GetLoadResponse:
        """How busy the engine is. Raises RefusedError."""
        load = self._asked(message.vocabulary).current_load()
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
        """A message for each new token, and a last one. Closing or cancelling it stops the work."""
        arrived_at, progress = time.time(), _Progress(time.monotonic())
        code = grpc.StatusCode.CANCELLED
        self._count(1)
        try:
            engine = self._engine_with(message.vocabulary)
            progress.model = engine.model.name
            progress.request = _checked(engine, message)
            answer = self._answer(engine, progress.request, caller, progress)
            async with aclosing(answer) as responses:
                async for response in responses:
                    yield response
            code = grpc.StatusCode.OK
        except RefusedError as refusal:
            code = refusal.code
            raise
        except Exception as error:  # its message is for the log, not for the caller
            log.error("generation failed\n%s", redacted_traceback(error))  # noqa: TRY400
            code = grpc.StatusCode.INTERNAL
            raise RefusedError(code, "the service failed; see its log") from error
        finally:
            if code is grpc.StatusCode.CANCELLED:
                code = _code_without_caller(progress, caller)
            self._count(-1)
            self._observer.request_ended(_outcome(progress, caller, code, arrived_at))

    async def idle(self) -> None:
        """Return when no request is open."""
        await self._idle.wait()

    def _count(self, change: int) -> None:
        self.open_requests += change
        if self.open_requests:
            self._idle.clear()
        else:
            self._idle.set()

    def _asked(self, vocabulary: str) -> "Engine":
        """The engine with a vocabulary, the first one where none is named."""
        return self._engine_with(vocabulary) if vocabulary else self._ready()[0]

    def _engine_with(self, vocabulary: str) -> "Engine":
        engines = self._ready()
        for engine in engines:
            if engine.model.tokenizer.fingerprint == vocabulary:
                return engine
        raise _other_vocabulary([engine.model.name for engine in engines])

    def _ready(self) -> "tuple[Engine, ...]":
        if self.draining:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")
        if not self.engines:
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the model is still loading")
        if any(engine.died.done() for engine in self.engines):
            raise RefusedError(grpc.StatusCode.UNAVAILABLE, "the model has stopped working")
        return self.engines

    async def _answer(
        self, engine: "Engine", request: TokenRequest, caller: Caller, progress: _Progress
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        position = request.position
        async with engine.submit(request, caller) as submitted:
            progress.submitted = submitted
            async for token, moment in submitted:
                last = progress.last_token_at
                self._observer.token_sent(None if last is None else moment - last)
                progress.first_token_at = progress.first_token_at or moment
                progress.last_token_at = moment
                progress.generated += 1
                if token in request.end_ids:
                    progress.reason = FinishReason.STOP
                elif progress.generated == request.max_tokens:
                    progress.reason = FinishReason.LENGTH
                response = pb.GenerateResponse(position=position, token_ids=[token])
                if (
                    progress.generated == 1
                ):  # a caller that has all tokens may skip the last message
                    queued = (progress.started_at or moment) - progress.arrived_at
                    response.timings.queued = queued
                yield response
                position += 1
        yield _last_message(request, progress.reason or FinishReason.LENGTH, position, progress)


def _checked(engine: "Engine", message: pb.GenerateRequest) -> TokenRequest:
    """The request, after every check that needs no work. Raises RefusedError."""
    model = engine.model
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


def _other_vocabulary(names: list[str]) -> RefusedError:
    served = " or ".join(f"'{name}'" for name in names)
    return RefusedError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"the caller's vocabulary is not that of the model served here, {served}; "
        "use the same model on the device and in the cloud",
    )


def _code_without_caller(progress: _Progress, caller: Caller) -> grpc.StatusCode:
    """The status of a request whose caller is gone."""
    if progress.reason:
        return grpc.StatusCode.OK  # a caller that has all tokens may skip the last message
    if caller.is_late(time.monotonic()):
        return grpc.StatusCode.DEADLINE_EXCEEDED  # a handler sees the same cancellation
    return grpc.StatusCode.CANCELLED


def _last_message(
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
            queued=(progress.started_at or ended) - progress.arrived_at,
            time_to_first_token=(progress.first_token_at or ended) - progress.arrived_at,
            total=ended - progress.arrived_at,
        ),
    )


def _outcome(
    progress: _Progress, caller: Caller, code: grpc.StatusCode, arrived_at: float
) -> RequestOutcome:
    def since_arrival(moment: float | None) -> float | None:
        return None if moment is None else moment - progress.arrived_at

    return RequestOutcome(
        caller=caller,
        code=code,
        arrived_at=arrived_at,
        total_time=time.monotonic() - progress.arrived_at,
        prompt_tokens=progress.request.position if progress.request else 0,
        cached_tokens=progress.submitted.cached_tokens if progress.submitted else 0,
        generated_tokens=progress.generated,
        queue_time=since_arrival(progress.started_at),
        time_to_first_token=since_arrival(progress.first_token_at),
        finish_reason=progress.reason.value if progress.reason else None,
        model=progress.model,
    )
