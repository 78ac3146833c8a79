"""The cloud as a source of tokens."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import grpc

from edgewise.breaker import CircuitBreaker
from edgewise.channel import open_channel
from edgewise.cloud_security import CloudSecurity
from edgewise.errors import (
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.policy import CloudState, PredictedTime
from edgewise.watchdog import Watchdog
from edgewise_edge import TokenRequest
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT = 2.0  # seconds, for the first word from a cloud
SILENCE_TIMEOUT = 10.0  # seconds without a token, the first included

_NO_ACCESS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_UNAVAILABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


class InCloud:
    """One cloud service, spoken to in the tokens of one vocabulary."""

    def __init__(
        self, address: str, vocabulary: str, security: CloudSecurity | None = None
    ) -> None:
        security = security or CloudSecurity()
        self.address = address
        self.key = f"in_cloud/{address}"
        self.cuts_at: int | None = None
        self._vocabulary = vocabulary
        self._encrypted = security.encrypted
        self._metadata = (("authorization", f"Bearer {security.token}"),) if security.token else ()
        self._channel = open_channel(address, security)
        self._stub = pb_grpc.GeneratorStub(self._channel)
        self._model: pb.GetModelResponse | None = None
        self._breaker = CircuitBreaker()

    def state(self, predicted: PredictedTime) -> CloudState:
        """What is known without asking."""
        return CloudState(
            address=self.address,
            circuit_open=self._breaker.open,
            context_window=self._model.context_window if self._model else None,
            predicted=predicted,
        )

    def stream(
        self, request: TokenRequest, cancelled: threading.Event
    ) -> Generator[int, None, None]:
        """The new tokens. Raises SourceFailedError; closing it cancels the work in the cloud."""
        with self._watched():
            yield from self._generate(request, cancelled, self.describe())

    def unread(self, request: TokenRequest) -> int:
        """All of them, for all that is known here."""
        return request.position

    def prepare(self) -> None:
        """Get to know the model served there. Raises SourceFailedError."""
        with self._watched():
            self.describe()

    def describe(self) -> pb.GetModelResponse:
        """The model served there, asked once. Raises CloudUnavailableError or a refusal."""
        if self._model is None:
            with self._translated():
                model = self._stub.GetModel(
                    pb.GetModelRequest(), timeout=CONNECT_TIMEOUT, metadata=self._metadata
                )
            if model.vocabulary != self._vocabulary:
                raise VocabularyMismatchError(
                    f"{self.address} serves '{model.name}', whose vocabulary is not this device's; "
                    "use the same model on both sides"
                )
            self._model = model
        return self._model

    def load(self) -> pb.GetLoadResponse:
        """How busy the cloud is, asked now. Raises SourceFailedError."""
        with self._translated():
            return self._stub.GetLoad(
                pb.GetLoadRequest(), timeout=CONNECT_TIMEOUT, metadata=self._metadata
            )

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def _generate(
        self, request: TokenRequest, cancelled: threading.Event, model: pb.GetModelResponse
    ) -> Generator[int, None, None]:
        if request.position + request.max_tokens > model.context_window:
            raise CloudRefusedError(
                f"{request.position} tokens + {request.max_tokens} new ones exceed the context "
                f"window of {model.context_window}; shorten the prompt or lower max_tokens"
            )
        position = request.position
        with self._translated():
            call = self._stub.Generate(_message(request, self._vocabulary), metadata=self._metadata)
            with Watchdog(SILENCE_TIMEOUT, call.cancel) as watchdog:
                try:
                    for response in call:
                        watchdog.feed()
                        self._breaker.succeeded()
                        _check(response, position, model.vocabulary_size)
                        yield from response.token_ids
                        position += len(response.token_ids)
                        if response.finish_reason or cancelled.is_set():
                            return
                        watchdog.feed()  # the reader's own time is not the cloud's
                except grpc.RpcError as error:
                    if watchdog.bit:
                        raise CloudUnavailableError(
                            f"{self.address} sent nothing for {SILENCE_TIMEOUT:.0f} s"
                        ) from error
                    raise
                finally:
                    call.cancel()
        raise CloudUnavailableError(f"{self.address} ended its answer without finishing it")

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell the circuit breaker of a cloud that is not there; a busy one is."""
        try:
            yield
        except CloudBusyError:
            raise
        except CloudUnavailableError:
            self._breaker.failed()
            raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._failure(error) from error
        except ValueError as error:  # what gRPC says of a closed channel
            raise CloudUnavailableError(f"the connection to {self.address} is closed") from error

    def _failure(self, error: grpc.RpcError) -> SourceFailedError:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            self._model = None  # another model is served now: ask again next time
            return VocabularyMismatchError(f"{self.address}: {details}")
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return CloudBusyError(f"{self.address} is busy: {details}")
        if code in _NO_ACCESS:
            problem = "does not know the token" if self._metadata else "asks for a token"
            return CloudAccessError(
                f"{self.address} {problem} ({code.name}); check that the token set here is one that "
                "'edgewise-cloud token' made for that service"
            )
        if code in _UNAVAILABLE:
            return CloudUnavailableError(self._silence(code, details))
        return CloudRefusedError(f"{self.address} refused the request: {details}")

    def _silence(self, code: grpc.StatusCode, details: str | None) -> str:
        if self._encrypted:
            return (
                f"{self.address} does not answer over TLS ({code.name}: {details}); check that "
                "'edgewise-cloud serve' runs there with TLS, that its certificate is for that host "
                "and from an authority trusted here, and whether it asks for a client's certificate"
            )
        return (
            f"{self.address} does not answer ({code.name}); check that 'edgewise-cloud serve' "
            "runs there, and without TLS"
        )


def _check(response: pb.GenerateResponse, position: int, vocabulary_size: int) -> None:
    """Raise CloudUnavailableError for tokens that are not the next ones."""
    if response.position != position or any(id_ >= vocabulary_size for id_ in response.token_ids):
        raise CloudUnavailableError(
            f"the cloud sent tokens for position {response.position} where {position} was next, or "
            "tokens outside the vocabulary"
        )


def _message(request: TokenRequest, vocabulary: str) -> pb.GenerateRequest:
    sampling = request.sampling
    return pb.GenerateRequest(
        token_ids=request.token_ids,
        prompt_tokens=request.prompt_tokens,
        max_tokens=request.max_tokens,
        sampling=pb.Sampling(
            temperature=sampling.temperature,
            top_k=sampling.top_k,
            top_p=sampling.top_p,
            repetition_penalty=sampling.repetition_penalty,
            seed=sampling.seed,
        ),
        end_token_ids=sorted(request.end_ids),
        vocabulary=vocabulary,
    )
