"""The cloud as a source of tokens. The only module of the router that imports gRPC."""

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import grpc

from edgewise.breaker import CircuitBreaker
from edgewise.errors import (
    CloudRefusedError,
    CloudUnavailableError,
    ConfigurationError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.policy import CloudState, PredictedTime
from edgewise_edge import TokenRequest
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

CONNECT_TIMEOUT = 2.0  # seconds, for the first word from a cloud
FIRST_TOKEN_TIMEOUT = 10.0  # seconds

_UNAVAILABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


class InCloud:
    """One cloud service, spoken to in the tokens of one vocabulary."""

    def __init__(self, address: str, vocabulary: str) -> None:
        _check_address(address)
        self.address = address
        self.key = f"in_cloud/{address}"
        self._vocabulary = vocabulary
        self._channel = grpc.insecure_channel(address)
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

    def stream(self, request: TokenRequest) -> Generator[int, None, None]:
        """The new tokens. Raises SourceFailedError; closing it cancels the work in the cloud."""
        with self._watched():
            yield from self._generate(request, self.describe())

    def prepare(self) -> None:
        """Get to know the model served there. Raises SourceFailedError."""
        with self._watched():
            self.describe()

    def describe(self) -> pb.GetModelResponse:
        """The model served there, asked once. Raises CloudUnavailableError or a refusal."""
        if self._model is None:
            try:
                model = self._stub.GetModel(pb.GetModelRequest(), timeout=CONNECT_TIMEOUT)
            except grpc.RpcError as error:
                raise self._failure(error) from error
            if model.vocabulary != self._vocabulary:
                raise VocabularyMismatchError(
                    f"{self.address} serves '{model.name}', whose vocabulary is not this device's; "
                    "use the same model on both sides"
                )
            self._model = model
        return self._model

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except CloudUnavailableError:
            self._breaker.failed()
            raise

    def _generate(
        self, request: TokenRequest, model: pb.GetModelResponse
    ) -> Generator[int, None, None]:
        call = self._stub.Generate(_message(request, self._vocabulary))
        late = threading.Event()

        def give_up() -> None:
            late.set()
            call.cancel()

        timer = threading.Timer(FIRST_TOKEN_TIMEOUT, give_up)
        timer.daemon = True
        timer.start()
        position = request.position
        try:
            for response in call:
                timer.cancel()
                self._breaker.succeeded()
                _check(response, position, model.vocabulary_size)
                yield from response.token_ids
                position += len(response.token_ids)
                if response.finish_reason:
                    return
            raise CloudUnavailableError(f"{self.address} ended its answer without finishing it")
        except grpc.RpcError as error:
            if late.is_set():
                raise CloudUnavailableError(
                    f"{self.address} sent no token within {FIRST_TOKEN_TIMEOUT:.0f} s"
                ) from error
            raise self._failure(error) from error
        finally:
            timer.cancel()
            call.cancel()

    def _failure(self, error: grpc.RpcError) -> SourceFailedError:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.FAILED_PRECONDITION:
            self._model = None  # another model is served now: ask again next time
            return VocabularyMismatchError(f"{self.address}: {details}")
        if code in _UNAVAILABLE:
            return CloudUnavailableError(
                f"{self.address} does not answer ({code.name}); check that 'edgewise-cloud serve' "
                "runs there"
            )
        return CloudRefusedError(f"{self.address} refused the request: {details}")


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


def _check_address(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise ConfigurationError(f"the cloud's address is '{address}'; it must be HOST:PORT")
