"""The two calls that stream: new tokens, and the scores of given ones."""

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import Any

import grpc

from edgewise.cloud.client import CloudClient, Metadata
from edgewise.cloud.codec import (
    ADDED,
    decode_scores,
    encode_request,
    needs_level,
    validate_response,
    validate_scores,
)
from edgewise.cloud.config import CloudTimeouts
from edgewise.cloud.stall_timer import StallTimer
from edgewise.errors import CloudRefusedError, CloudUnavailableError
from edgewise.generation.attempt import Attempt
from edgewise.generation.request import CloudTokenRequest
from edgewise_proto import generation_pb2 as pb


@dataclass(frozen=True, slots=True)
class CloudStreams:
    """Streams of one service. `succeeded` is called for every response that shows that it works."""

    client: CloudClient
    vocabulary: Callable[[], str]
    timeouts: CloudTimeouts
    succeeded: Callable[[], None]

    def tokens(
        self, request: CloudTokenRequest, attempt: Attempt, model: pb.GetModelResponse
    ) -> Generator[int, None, None]:
        """New tokens, each after its score is in `attempt.scores` if the request asks for it."""
        self._require_level(model, needs_level(request))
        attempt.ready(uncached=request.position)  # its prefix cache is unknown here
        request = request.fitted(model.context_window)
        attempt.max_tokens = request.max_tokens
        if request.position + request.max_tokens > model.context_window:
            raise CloudRefusedError(
                f"{request.position} tokens + {request.max_tokens} new ones exceed the context "
                f"window of {model.context_window}; shorten the prompt or lower max_tokens"
            )
        encoded, position = encode_request(request, self.vocabulary()), request.position
        call = self.client.generate(encoded, attempt.time_left, _trace(attempt), attempt.stop)
        with closing(self._read(call, attempt)) as responses:
            for response in responses:
                validate_response(response, position, request, model.vocabulary_size)
                if response.HasField("timings"):
                    attempt.queued = response.timings.queued
                if response.token_ids:
                    self.succeeded()
                    if request.logprobs is not None:
                        attempt.scores += decode_scores(response.token_ids, response.scores)
                    yield from response.token_ids
                    position += len(response.token_ids)
                if response.finish_reason:
                    return
        self._require_stopped(attempt)

    def scores(
        self, request: CloudTokenRequest, top: int, attempt: Attempt, model: pb.GetModelResponse
    ) -> Generator[int, None, None]:
        """The request's own tokens, each after its score is in `attempt.scores`."""
        self._require_level(model, 1)
        ids, position = request.token_ids, 0
        if len(ids) > model.context_window:
            raise CloudRefusedError(
                f"{len(ids)} tokens exceed the context window of {model.context_window}; "
                "shorten the prompt"
            )
        message = pb.ScoreRequest(token_ids=ids, top=top, vocabulary=self.vocabulary())
        call = self.client.score(message, attempt.time_left, _trace(attempt), attempt.stop)
        with closing(self._read(call, attempt)) as responses:
            for response in responses:
                scored = ids[position : position + len(response.scores)]
                validate_scores(response, position, scored, top, model.vocabulary_size)
                if scored:
                    self.succeeded()
                    attempt.scores += decode_scores(scored, response.scores)
                    yield from scored
                    position += len(scored)
                if position == len(ids):
                    return
        self._require_stopped(attempt)

    def _read(
        self, call: AbstractContextManager[Any], attempt: Attempt
    ) -> Generator[Any, None, None]:
        """The responses of `call`, until it ends or the attempt is stopped.

        Only tokens and scores count as a sign of life.
        """
        begun, timeouts = False, self.timeouts
        with (
            call as responses,
            StallTimer(timeouts.first_token, responses.cancel, attempt.thawed) as timer,
        ):
            try:
                for response in responses:
                    if not _holds_something(response):
                        yield response
                    else:
                        begun = True
                        timer.timeout = timeouts.between_tokens
                        timer.pause()  # the caller's time is not the cloud's
                        yield response
                        timer.reset()
                    if attempt.stop.is_set():
                        return
            except grpc.RpcError as error:
                if attempt.stop.is_set():
                    return
                # A deadline shorter than `connect` comes from the request: it proves no failure.
                if timer.stalled or (not begun and timer.waited >= timeouts.connect):
                    attempt.timed_out = error.code() is not grpc.StatusCode.UNAVAILABLE
                    raise CloudUnavailableError(
                        f"{self.client.address} sent no token in {timer.waited:.1f} s"
                    ) from error
                raise

    def _require_level(self, model: pb.GetModelResponse, level: int) -> None:
        if model.level < level:
            raise CloudRefusedError(
                f"{self.client.address} is an older service, without {ADDED[level]}; update "
                "'edgewise-cloud' there"
            )

    def _require_stopped(self, attempt: Attempt) -> None:
        if not attempt.stop.is_set():
            raise CloudUnavailableError(
                f"{self.client.address} ended its answer without finishing it"
            )


def _holds_something(response: pb.GenerateResponse | pb.ScoreResponse) -> bool:
    if isinstance(response, pb.GenerateResponse):
        return bool(response.token_ids)
    return bool(response.scores)


def _trace(attempt: Attempt) -> Metadata:
    return (("traceparent", attempt.traceparent),) if attempt.traceparent else ()
