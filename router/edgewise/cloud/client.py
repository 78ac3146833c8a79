"""The calls to a cloud service, with their failures as SourceFailedError."""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import Message

from edgewise.cloud.channel import open_channel
from edgewise.cloud.config import CloudSecurity
from edgewise.cloud.status import error_for_status
from edgewise.errors import CloudBusyError, CloudUnavailableError, ConfigurationError
from edgewise.generation.attempt import StopSignal
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc
from edgewise_proto.address import AddressError, parse_address

Metadata = Sequence[tuple[str, str]]


class CloudClient:
    """A client of one service. It connects on the first call, and again after `reconnect`.

    It retries nothing. All failures are raised as SourceFailedError, but ConfigurationError for an
    address that is not HOST:PORT, and as `open_channel`.
    """

    def __init__(self, address: str, security: CloudSecurity) -> None:
        try:
            self._address = parse_address(address)
        except AddressError as error:
            raise ConfigurationError(str(error)) from error
        self.address = str(self._address)
        self._security = security
        self._metadata = (("authorization", f"Bearer {security.token}"),) if security.token else ()
        # Re-entrant: the garbage collector may end a stream, which closes its call, at any point.
        self.lock = threading.RLock()
        self._current: _Channel | None = _Channel(
            open_channel(self._address, security)
        )  # checks both
        self._draining: list[_Channel] = []  # replaced, with calls in flight
        self._closed = False

    def model(
        self,
        vocabulary: str,
        timeout: float,
        stop: StopSignal | None = None,
        *,
        caller_deadline: bool = False,
    ) -> pb.GetModelResponse:
        """The model that is served for the vocabulary with this fingerprint. Setting `stop` cancels the call, which then fails."""
        with self._stub(caller_deadline=caller_deadline) as stub:
            start = partial(
                stub.GetModel.future,
                pb.GetModelRequest(vocabulary=vocabulary),
                timeout=timeout,
                metadata=self._metadata,
            )
            call = self._started(start, stop) if stop else start()
            try:
                response: pb.GetModelResponse = call.result()
            except grpc.FutureCancelledError as error:
                raise CloudBusyError(f"the call to {self.address} was cancelled") from error
            finally:
                call.cancel()  # an interrupt ends only the wait for it
            return response

    def get_load(self, vocabulary: str, timeout: float) -> pb.GetLoadResponse:
        """The current load of the service, for that model."""
        request = pb.GetLoadRequest(vocabulary=vocabulary)
        with self._stub() as stub:
            return stub.GetLoad(request, timeout=timeout, metadata=self._metadata)

    def generate(
        self,
        message: pb.GenerateRequest,
        timeout: float | None,
        metadata: Metadata,
        stop: StopSignal,
    ) -> AbstractContextManager[Any]:
        """A call that yields responses as they arrive; leaving the block or setting `stop` cancels it.

        Once `stop` is set nothing is sent: it raises CloudBusyError.
        """
        return self._streaming("Generate", message, timeout, metadata, stop)

    def score(
        self,
        message: pb.ScoreRequest,
        timeout: float | None,
        metadata: Metadata,
        stop: StopSignal,
    ) -> AbstractContextManager[Any]:
        """As `generate`."""
        return self._streaming("Score", message, timeout, metadata, stop)

    @contextmanager
    def _streaming(
        self,
        method: str,
        message: Message,
        timeout: float | None,
        metadata: Metadata,
        stop: StopSignal,
    ) -> Iterator[Any]:
        with self._stub(caller_deadline=timeout is not None) as stub:
            metadata = (*self._metadata, *metadata)
            start = partial(getattr(stub, method), message, timeout=timeout, metadata=metadata)
            call = self._started(start, stop)
            try:
                yield call
            finally:
                call.cancel()

    @property
    def proven(self) -> bool:
        """Whether a call has succeeded on the channel: if one fails now, a new channel may do."""
        channel = self._current
        return channel is not None and channel.proven

    def reconnect(self) -> None:
        """Drop a channel that failed, so that the next call opens a new one.

        gRPC would reconnect in the background, even when idle, and fail calls until it has. Calls
        in flight may finish.
        """
        with self.lock:
            channel, self._current = self._current, None
            if channel and channel.calls:
                self._draining.append(channel)
            elif channel:
                channel.grpc_channel.close()

    def close(self) -> None:
        """Close all channels for good, which cancels the calls in flight."""
        with self.lock:
            self._closed = True
            for channel in (self._current, *self._draining):
                if channel:
                    channel.grpc_channel.close()

    def _started(self, start: Callable[[], Any], stop: StopSignal) -> Any:
        """The call that `start` makes; setting `stop` cancels it, or prevents it."""
        call = stop.start_unless_set(start, lambda started: started.cancel())
        if call is None:
            raise CloudBusyError(f"the call to {self.address} was cancelled")
        return call

    @contextmanager
    def _stub(self, *, caller_deadline: bool = False) -> Iterator[pb_grpc.GeneratorStub]:
        channel = self._acquire_channel()
        try:
            yield pb_grpc.GeneratorStub(channel.grpc_channel)
            channel.proven = True
        except grpc.RpcError as error:
            if _name_not_found(error):
                raise CloudUnavailableError(
                    f"the name '{self._address.host}' was not found; check the cloud address, and "
                    "the network and DNS of this device"
                ) from error
            raise error_for_status(
                error, self.address, self._security, caller_deadline=caller_deadline
            ) from error
        except ValueError as error:  # raised by gRPC for a closed channel
            raise CloudUnavailableError(f"the connection to {self.address} is closed") from error
        finally:
            with self.lock:
                channel.calls -= 1
                if not channel.calls and channel in self._draining:
                    self._draining.remove(channel)
                    channel.grpc_channel.close()

    def _acquire_channel(self) -> "_Channel":
        """The channel for one more call."""
        with self.lock:
            if self._closed:
                raise CloudUnavailableError(f"the connection to {self.address} is closed")
            if self._current is None:
                try:
                    self._current = _Channel(open_channel(self._address, self._security))
                except ConfigurationError as error:  # valid before: the files are being renewed
                    raise CloudUnavailableError(str(error)) from error
            self._current.calls += 1
            return self._current


@dataclass(slots=True, eq=False)
class _Channel:
    """A gRPC channel, the number of calls in flight on it, and whether one has succeeded."""

    grpc_channel: grpc.Channel
    calls: int = 0
    proven: bool = False


def _name_not_found(error: grpc.RpcError) -> bool:
    """By gRPC's words, since there is no status for it."""
    return (
        error.code() is grpc.StatusCode.UNAVAILABLE
        and re.match("errors resolving|DNS resolution failed", error.details() or "") is not None
    )
