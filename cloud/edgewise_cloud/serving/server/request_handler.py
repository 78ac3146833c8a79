"""From request messages to response messages, for gRPC's server and for Ray Serve."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar

import grpc

from edgewise_cloud.serving.redact import redacted_traceback
from edgewise_cloud.serving.server.codec import (
    FINISH_REASONS,
    encode_score,
    generation_request,
    score_request,
)
from edgewise_cloud.serving.server.progress import Progress
from edgewise_cloud.serving.types import Caller, Observer, RefusedError
from edgewise_edge.decoding.request import FinishReason, TokenRequest
from edgewise_edge.errors import RequestError
from edgewise_edge.store.manifest import Architecture
from edgewise_proto import generation_pb2 as pb

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import EngineRequest

log = logging.getLogger("edgewise_cloud.serving.answering")

LEVEL = 2  # of the contract; see GetModelResponse in generation.proto


Message = TypeVar("Message", pb.GenerateRequest, pb.ScoreRequest)
Response = TypeVar("Response", pb.GenerateResponse, pb.ScoreResponse)


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
            level=LEVEL,
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

    def generate(
        self, message: pb.GenerateRequest, caller: Caller
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        """A message for each new token, and a last one. Closing or cancelling it stops the work."""
        return self._handle("Generate", message, caller, generation_request, self._tokens)

    def score(
        self, message: pb.ScoreRequest, caller: Caller
    ) -> AsyncGenerator[pb.ScoreResponse, None]:
        """The scores, some tokens a message. Closing or cancelling it stops the work."""
        return self._handle("Score", message, caller, score_request, self._scores)

    async def _handle(
        self,
        method: str,
        message: Message,
        caller: Caller,
        decode: Callable[[Message, Architecture], TokenRequest],
        answer: "Callable[[TokenRequest, EngineRequest, Progress], AsyncGenerator[Response, None]]",
    ) -> AsyncGenerator[Response, None]:
        """Check, submit, answer; count and report the request, in whatever way it ends."""
        arrived_at, progress = time.time(), Progress(method, caller, time.monotonic())
        code = grpc.StatusCode.CANCELLED
        self._count(1)
        try:
            engine = self._engine_with(message.vocabulary)
            progress.model = engine.model.name
            request = progress.request = _decoded(decode, message, engine)
            async with engine.submit(request, caller) as progress.submitted:
                responses = answer(request, progress.submitted, progress)
                async with aclosing(responses):
                    async for response in responses:
                        yield response
            code = grpc.StatusCode.OK
        except RefusedError as refusal:
            code = refusal.code
            raise
        except Exception as error:  # its message is for the log, not for the caller
            log.error("%s failed\n%s", method, redacted_traceback(error))  # noqa: TRY400
            code = grpc.StatusCode.INTERNAL
            raise RefusedError(code, "the service failed; see its log") from error
        finally:
            if code is grpc.StatusCode.CANCELLED:
                code = progress.code_without_caller()
            self._count(-1)
            self._observer.request_ended(progress.outcome(code, arrived_at))

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

    async def _tokens(
        self, request: TokenRequest, submitted: "EngineRequest", progress: Progress
    ) -> AsyncGenerator[pb.GenerateResponse, None]:
        position = request.position
        async for token, moment, scores in submitted:
            assert token is not None  # noqa: S101  # for mypy: only a score has outputs without
            last = progress.last_token_at
            self._observer.token_sent(None if last is None else moment - last)
            progress.first_token_at = progress.first_token_at or moment
            progress.last_token_at = moment
            progress.generated += 1
            if token in request.end_ids:
                progress.reason = FinishReason.STOP
            elif progress.generated == request.max_tokens:
                progress.reason = FinishReason.LENGTH
            progress.complete = progress.reason is not None
            response = pb.GenerateResponse(
                position=position, token_ids=[token], scores=map(encode_score, scores)
            )
            if progress.generated == 1:  # a caller that has all tokens may skip the last message
                response.timings.queued = (progress.started_at or moment) - progress.arrived_at
            yield response
            position += 1
        yield pb.GenerateResponse(
            position=position,
            finish_reason=FINISH_REASONS[progress.reason or FinishReason.LENGTH],
            usage=pb.Usage(
                prompt_tokens=request.prompt_tokens,
                completion_tokens=position - request.prompt_tokens,
            ),
            timings=progress.timings(),
        )

    async def _scores(
        self, request: TokenRequest, submitted: "EngineRequest", progress: Progress
    ) -> AsyncGenerator[pb.ScoreResponse, None]:
        position = 0
        async for _, _, scores in submitted:
            progress.complete = position + len(scores) == request.position
            yield pb.ScoreResponse(position=position, scores=map(encode_score, scores))
            position += len(scores)


def _decoded(
    decode: Callable[[Message, Architecture], TokenRequest], message: Message, engine: "Engine"
) -> TokenRequest:
    """The request, after every check that needs no work. Raises RefusedError."""
    try:
        return decode(message, engine.model.architecture)
    except RequestError as error:
        raise RefusedError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error


def _other_vocabulary(names: list[str]) -> RefusedError:
    served = " or ".join(f"'{name}'" for name in names)
    return RefusedError(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"the caller's vocabulary is not that of the model served here, {served}; "
        "use the same model on the device and in the cloud",
    )
