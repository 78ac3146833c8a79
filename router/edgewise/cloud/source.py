"""The cloud as a source of tokens."""

import random
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import grpc

from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker
from edgewise.cloud.client import CloudClient
from edgewise.cloud.codec import encode_request, require_cloud_allowed, validate_response
from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.cloud.health_probe import HealthProbe
from edgewise.cloud.stall_timer import StallTimer
from edgewise.errors import (
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.generation.attempt import Attempt
from edgewise.generation.request import CloudTokenRequest
from edgewise.latency.log import LatencyLog
from edgewise.policy.types import CloudState, PredictedTime, VetoCode
from edgewise_proto import generation_pb2 as pb

LOAD_AGE = 5.0  # seconds for which what the cloud said of its load is believed


class CloudSource:
    """One cloud service, spoken to in the tokens of one vocabulary.

    A cloud that fails three times in a row is left alone. With `background` it is then looked at
    now and then until it is well; without, the next request that wants it tries.
    """

    def __init__(
        self,
        address: str,
        vocabulary: str,
        latency: LatencyLog,
        security: CloudSecurity | None = None,
        timeouts: CloudTimeouts | None = None,
        *,
        background: bool = True,
    ) -> None:
        self.address = address
        self.cuts_at: int | None = None
        self.key = f"in_cloud/{address}"
        self._vocabulary, self._latency, self._background = vocabulary, latency, background
        self._timeouts = timeouts or CloudTimeouts()
        self._connection = CloudClient(address, security or CloudSecurity())
        self._model: pb.GetModelResponse | None = None
        self._breaker = CircuitBreaker(cooldown=2 * self._timeouts.probe_interval)
        self._prober = HealthProbe(self._look, self._timeouts.probe_interval)
        self._busy_until = 0.0
        self._load: pb.GetLoadResponse | None = None
        self._load_at = 0.0
        self._asking_load = threading.Lock()

    def state(self, position: int, max_tokens: int) -> CloudState:
        """What is known without asking, for `max_tokens` more tokens at `position`."""
        self._prober.record_demand()
        return CloudState(
            address=self.address,
            circuit_open=self._breaker.open,
            busy_for=max(0.0, self._busy_until - time.monotonic()),
            context_window=self._model.context_window if self._model else None,
            predicted=self.predict(position, max_tokens),
        )

    def predict(self, position: int, max_tokens: int) -> PredictedTime:
        """How long it would take, by what was measured and what the cloud said of its load."""
        fresh = self._load if time.monotonic() - self._load_at < LOAD_AGE else None
        return self._latency.predict_in_cloud(
            self.key,
            position=position,
            max_tokens=max_tokens,
            expected_wait=fresh.expected_wait if fresh else None,
        )

    def prepare(self, request: CloudTokenRequest, attempt: Attempt) -> None:
        """Get to know the model served there. Raises as `stream` does."""
        require_cloud_allowed(request)
        attempt.entry = self._breaker.acquire()
        if attempt.entry is None:
            raise CloudBusyError(f"{self.address} failed lately, and another request is trying it")
        try:
            with self._judged():
                self.describe(attempt)
        except BaseException:  # an interrupt, too
            self._ended(attempt)
            raise

    def uncached(self, request: CloudTokenRequest) -> int:
        """All of them, for all that is known here."""
        return request.position

    def stream(self, request: CloudTokenRequest, attempt: Attempt) -> Generator[int, None, None]:
        """The new tokens. Raises SourceFailedError; closing it cancels the work in the cloud.

        Raises PrivacyError for a request that may not leave the device.
        """
        require_cloud_allowed(request)
        try:
            with self._judged():
                yield from self._generate(request, attempt, self.describe(attempt))
        finally:
            self._ended(attempt)

    def describe(self, attempt: Attempt | None = None) -> pb.GetModelResponse:
        """The model served there, asked once. Raises CloudUnavailableError or a refusal."""
        if self._model is None:
            patience, left = self._timeouts.connect, attempt.timeout if attempt else None
            model = self._connection.model(
                patience if left is None else min(patience, left),
                attempt.stop if attempt else None,
                caller_deadline=left is not None and left < patience,
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
        load = self._connection.load(self._timeouts.connect)
        self._load, self._load_at = load, time.monotonic()
        return load

    def refresh(self) -> None:
        """Ask how busy the cloud is, beside, for the next decision, unless that is known."""
        known = self._breaker.state is Circuit.CLOSED and self._model is not None
        if known and time.monotonic() - self._load_at >= LOAD_AGE:
            threading.Thread(target=self._refresh, name="edgewise-load", daemon=True).start()

    def learn(self, attempt: Attempt) -> None:
        """Remember how long it took."""
        if attempt.first_token is not None:
            self._latency.add(self.key, attempt.measurement())

    def close(self) -> None:
        """Close the connection."""
        self._prober.close()
        self._connection.close()

    def _refresh(self) -> None:
        if self._asking_load.acquire(blocking=False):
            try:
                with self._judged():  # who is in a hurry cannot tell whether it is well
                    self.load()
            except SourceFailedError:
                self._load = None
                self._load_at = time.monotonic() - LOAD_AGE / 2  # not at once again
            finally:
                self._asking_load.release()

    def _ended(self, attempt: Attempt) -> None:
        if attempt.handover and attempt.handover.code is VetoCode.STALLED:
            self._fail()
        self._breaker.release(attempt.entry)

    def _fail(self) -> None:
        if self._breaker.failed() and self._background:
            self._prober.start()
        self._connection.reconnect()

    def _look(self) -> bool:
        """Whether a cloud that failed is well again."""
        try:
            self.load()
        except (CloudBusyError, CloudRefusedError):
            pass  # an answer
        except SourceFailedError:
            self._breaker.failed()
            self._connection.reconnect()
            return False
        self._breaker.allow_trial()
        return True

    def _generate(
        self, request: CloudTokenRequest, attempt: Attempt, model: pb.GetModelResponse
    ) -> Generator[int, None, None]:
        if request.position + request.max_tokens > model.context_window:
            raise CloudRefusedError(
                f"{request.position} tokens + {request.max_tokens} new ones exceed the context "
                f"window of {model.context_window}; shorten the prompt or lower max_tokens"
            )
        asked, position = encode_request(request, self._vocabulary), request.position
        trace = (("traceparent", attempt.traceparent),) if attempt.traceparent else ()
        with (
            self._connection.generate(asked, attempt.timeout, trace) as call,
            StallTimer(self._timeouts.first_token, call.cancel) as watchdog,
        ):
            attempt.stop.then(call.cancel)
            try:
                for response in call:
                    validate_response(response, position, request, model.vocabulary_size)
                    if response.HasField("timings"):
                        attempt.queued = response.timings.queued
                    if response.token_ids:
                        self._breaker.succeeded()
                        watchdog.timeout = self._timeouts.between_tokens
                        watchdog.pause()  # the reader's own time is not the cloud's
                        yield from response.token_ids
                        position += len(response.token_ids)
                        watchdog.reset()
                    if response.finish_reason:
                        return
                    if attempt.stop.is_set():
                        return
            except grpc.RpcError as error:
                if attempt.stop.is_set():
                    return
                silent = (
                    watchdog.waited >= self._timeouts.connect
                )  # and not just the request's hurry
                if watchdog.stalled or (position == request.position and silent):
                    raise CloudUnavailableError(
                        f"{self.address} sent no token in {watchdog.waited:.1f} s"
                    ) from error
                raise
        raise CloudUnavailableError(f"{self.address} ended its answer without finishing it")

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """Tell the circuit breaker of a failure; a cloud that is busy or refuses is well."""
        try:
            yield
        except CloudBusyError as error:
            if error.retry_after:
                # Not all at once, when it comes to that.
                rest = error.retry_after * random.uniform(1, 1.5)  # noqa: S311  # no secret
                self._busy_until = time.monotonic() + rest
            raise
        except CloudUnavailableError:
            self._fail()
            raise
        except VocabularyMismatchError:
            self._model = None  # another one is served now: ask again next time
            raise
