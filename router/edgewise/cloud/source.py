"""The cloud as a source of tokens."""

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeAlias, Unpack

from edgewise.cloud import grpc_logs  # noqa: F401  # must come before gRPC

# isort: split
from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker
from edgewise.cloud.client import CloudClient
from edgewise.cloud.config import CloudSecurity, CloudTimeouts
from edgewise.cloud.health_probe import HealthProbe
from edgewise.cloud.status import foreign_text
from edgewise.cloud.streams import CloudStreams
from edgewise.errors import (
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise.generation.attempt import FREEZE, Attempt, AttemptOptions, StopSignal
from edgewise.generation.request import CloudTokenRequest
from edgewise.generation.source import require_cloud_allowed
from edgewise.latency.log import LatencyLog
from edgewise.policy.types import CloudState, PredictedTime, Source, VetoCode
from edgewise_edge import TokenScore
from edgewise_proto import generation_pb2 as pb

log = logging.getLogger("edgewise")

# Reads one call's responses into an attempt.
Read: TypeAlias = Callable[[Attempt, pb.GetModelResponse], Generator[int, None, None]]

LOAD_MAX_AGE = 5.0  # seconds for which the service's last GetLoad answer is used


class CloudSource:
    """One cloud service, whose model must have the device's `vocabulary`.

    That is asked for when it is needed, and "" while the model is still to be downloaded.

    What the service serves is remembered for one connection; if that changes, the times measured
    of the former model are forgotten, and `describe_service` names it. A request whose connection fails before
    the first token is sent again on a new one, once, if that connection had worked before: the
    device may be in another network.

    After three failures in a row it is not used. With `background` it is then probed periodically
    until it answers; without, the next request that needs it is the probe.
    """

    def __init__(
        self,
        address: str,
        vocabulary: Callable[[], str],
        latency: LatencyLog,
        security: CloudSecurity | None = None,
        timeouts: CloudTimeouts | None = None,
        *,
        background: bool = True,
    ) -> None:
        self.background = background
        self._vocabulary, self._latency = vocabulary, latency
        self._timeouts = timeouts or CloudTimeouts()
        self.client = CloudClient(address, security or CloudSecurity())
        self.address = self.client.address
        self.key = f"in_cloud/{self.address}"  # in the latency log
        self.served_model: pb.GetModelResponse | None = None  # None: not known on this connection
        self._served = ""  # the last known model's name and revision
        self._served_before = ""  # the one before, if it has changed
        self.breaker = CircuitBreaker(cooldown=2 * self._timeouts.probe_interval)
        self._streams = CloudStreams(
            self.client, vocabulary, self._timeouts, self.breaker.succeeded
        )
        self.health_probe = HealthProbe(self._probe, self._timeouts.probe_interval)
        self._busy_until = 0.0
        self._last_failure = ""  # for people
        self._load: pb.GetLoadResponse | None = None
        self.load_read_at = 0.0  # time.monotonic()
        self._reading_load = threading.Lock()

    def __str__(self) -> str:
        """Its address."""
        return self.address

    def state(self, position: int, max_tokens: int) -> CloudState:
        """What is known without a call, for `max_tokens` more tokens at `position`."""
        self.health_probe.record_demand()
        return CloudState(
            address=self.address,
            circuit_open=self.breaker.open,
            last_failure=self._last_failure,
            busy_for=max(0.0, self._busy_until - time.monotonic()),
            context_window=self.served_model.context_window if self.served_model else None,
            predicted=self.predict(position, max_tokens),
        )

    def predict(self, position: int, max_tokens: int) -> PredictedTime:
        """Predicted from earlier measurements and the service's last known load."""
        if model := self.served_model:
            max_tokens = max(1, min(max_tokens, model.context_window - position))
        fresh = self._load if time.monotonic() - self.load_read_at < LOAD_MAX_AGE else None
        return self._latency.predict_in_cloud(
            self.key,
            position=position,
            max_tokens=max_tokens,
            expected_wait=fresh.expected_wait if fresh else None,
        )

    def open(self, request: CloudTokenRequest, /, **options: Unpack[AttemptOptions]) -> Attempt:
        """An attempt at `request`; leaving it cancels the work in the cloud.

        Raises PrivacyError for a request that may not leave the device. The iteration raises
        SourceFailedError.
        """
        require_cloud_allowed(request)
        run = partial(self._run, partial(self._streams.tokens, request))
        return Attempt(Source.IN_CLOUD, request.position, request.max_tokens, run, **options)

    def score(
        self,
        request: CloudTokenRequest,
        top: int,
        stop: StopSignal,
        *,
        traceparent: str | None = None,
    ) -> tuple[TokenScore, ...]:
        """The score of each of the request's tokens; see CloudTokenSource."""
        require_cloud_allowed(request)
        run = partial(self._run, partial(self._streams.scores, request, top))
        attempt = Attempt(
            Source.IN_CLOUD, 0, request.position, run, stop=stop, traceparent=traceparent
        )
        with attempt:
            deque(attempt, maxlen=0)
            return tuple(attempt.scores)

    def describe(self, attempt: Attempt | None = None) -> pb.GetModelResponse:
        """The model served there, read once for a connection.

        Raises CloudUnavailableError or CloudRefusedError.
        """
        return self.served_model or self._read_model(attempt)

    def _read_model(self, attempt: Attempt | None = None) -> pb.GetModelResponse:
        timeout, time_left = self._timeouts.connect, attempt.time_left if attempt else None
        model = self.client.model(
            self._vocabulary(),
            timeout if time_left is None else min(timeout, time_left),
            attempt.stop if attempt else None,
            caller_deadline=time_left is not None and time_left < timeout,
        )
        if model.vocabulary != (self._vocabulary() or model.vocabulary):
            raise VocabularyMismatchError(
                f"{self.address} serves '{foreign_text(model.name)}', whose vocabulary is not this "
                "device's; use the same model on the device and in the cloud"
            )
        served = f"{model.name}@{model.revision}"
        if self._served not in {"", served}:
            log.warning("%s now serves %r instead of %r", self.address, served, self._served)
            self._served_before = self._served
            self._latency.forget(self.key)  # another model, other times
            self._load = None
        self.served_model, self._served = model, served
        return model

    def read_load(self) -> pb.GetLoadResponse:
        """How busy the service is now. Raises SourceFailedError."""
        load = self.client.get_load(self._vocabulary(), self._timeouts.connect)
        self._load, self.load_read_at = load, time.monotonic()
        return load

    def describe_service(self) -> str:
        """For people: what it serves and how busy it is. Raises SourceFailedError."""
        served, load = self.describe(), self.read_load()
        changed = f" (before: {foreign_text(self._served_before)})" if self._served_before else ""
        return (
            f"{foreign_text(served.name)}@{foreign_text(served.revision)}{changed}, context window "
            f"{served.context_window}; {load.running} of {load.slots} slots taken, {load.waiting} waiting"
        )

    def refresh(self) -> None:
        """Read the service's load in the background for the next decision, unless it is recent."""
        usable = self.breaker.state is Circuit.CLOSED and self.served_model is not None
        if usable and time.monotonic() - self.load_read_at >= LOAD_MAX_AGE:
            threading.Thread(target=self.refresh_now, name="edgewise-load", daemon=True).start()

    def refresh_now(self) -> None:
        """As `refresh`, in this thread; does nothing while another thread reads it."""
        if self._reading_load.acquire(blocking=False):
            try:
                with self._reporting_failures():
                    self.read_load()
                    self._read_model()  # gRPC may have reconnected, to a service that has changed
            except SourceFailedError:
                self._load = None
                self.load_read_at = time.monotonic() - LOAD_MAX_AGE / 2  # do not retry immediately
            finally:
                self._reading_load.release()

    def close(self) -> None:
        """Close the connection."""
        self.health_probe.close()
        self.client.close()

    def _run(self, read: Read, attempt: Attempt) -> Generator[int, None, None]:
        """Attempt.run: pass the circuit breaker, connect, then stream."""
        permit = self.breaker.acquire()
        if permit is None:
            raise CloudBusyError(
                f"{self.address} failed recently, and another request is trying it"
            )
        try:
            with self._reporting_failures():
                yield from self._answer(read, attempt)
        finally:
            if attempt.handoff and attempt.handoff.code is VetoCode.STALLED:
                self._fail()
            self.breaker.release(permit)
            self._learn(attempt)

    def _learn(self, attempt: Attempt) -> None:
        if measurement := attempt.measurement():
            self._latency.add(self.key, measurement)

    def _answer(self, read: Read, attempt: Attempt) -> Generator[int, None, None]:
        """Stream; if the connection fails before the first token, once more on a new one."""
        started, usable = time.monotonic(), self.client.proven
        try:
            yield from self._connect_and_stream(read, attempt)
        except CloudUnavailableError as error:
            if not attempt.uncached:  # it was connecting
                late = time.monotonic() - started > self._timeouts.connect + FREEZE
            else:
                late = attempt.thawed_at is not None
            # `late`: the process was frozen, so the failure says nothing about the cloud. A second
            # timeout is worth it only where no other source may answer.
            again = (usable or late) and (attempt.may_wait or not attempt.timed_out)
            ended = attempt.tokens or attempt.stop.is_set() or isinstance(error, CloudBusyError)
            if ended or not again:
                raise
            self._learn(attempt)
            attempt.timed_out = False
            self._disconnect()
            yield from self._connect_and_stream(read, attempt)

    def _connect_and_stream(self, read: Read, attempt: Attempt) -> Generator[int, None, None]:
        yield from read(attempt, self.describe(attempt))

    def _probe(self) -> bool:
        """Whether the service answers again after a failure."""
        try:
            self.read_load()
        except (CloudBusyError, CloudRefusedError):
            pass  # it answers
        except SourceFailedError:
            self.breaker.failed()
            self._disconnect()
            return False
        self.breaker.allow_trial()
        return True

    def _fail(self) -> None:
        if self.breaker.failed() and self.background:
            self.health_probe.start()
        self._disconnect()

    def _disconnect(self) -> None:
        """Drop the connection, and what was learned on it: the next may lead to another service."""
        self.client.reconnect()
        self.served_model = None

    @contextmanager
    def _reporting_failures(self) -> Iterator[None]:
        """Report failures to the circuit breaker. A service that is busy or refuses is healthy."""
        try:
            yield
        except CloudBusyError as error:
            if error.retry_after:
                # With jitter, so that callers do not all retry at once.
                delay = error.retry_after * random.uniform(1, 1.5)  # noqa: S311  # not a secret
                self._busy_until = time.monotonic() + delay
            raise
        except CloudUnavailableError as error:
            self._last_failure = str(error)
            self._fail()
            raise
        except VocabularyMismatchError:
            self.served_model = None  # it may serve another model by the next request
            raise
