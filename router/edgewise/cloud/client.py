"""The calls to a cloud service, and what can go wrong with them."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from edgewise.cloud.channel import open_channel
from edgewise.cloud.config import CloudSecurity
from edgewise.cloud.status import failure
from edgewise.errors import CloudBusyError, CloudUnavailableError, ConfigurationError
from edgewise.generation.attempt import StopSignal
from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

Metadata = Sequence[tuple[str, str]]


class CloudClient:
    """A connection to one service, made when first used and dropped by `rest`.

    Nothing is retried in here. All that fails, fails as a SourceFailedError.
    """

    def __init__(self, address: str, security: CloudSecurity) -> None:
        self.address = address
        self._security = security
        self._metadata = (("authorization", f"Bearer {security.token}"),) if security.token else ()
        # Re-entrant, since a stream may be collected, and end, in the middle of anything.
        self._lock = threading.RLock()
        self._line: _Line | None = _Line(open_channel(address, security))  # checks both
        self._resting: list[_Line] = []  # with calls under way
        self._closed = False

    def model(
        self, timeout: float, stop: StopSignal | None = None, *, hurried: bool = False
    ) -> pb.GetModelResponse:
        """What is served there; `stop` ends the waiting as a failure."""
        with self._stub(hurried=hurried) as stub:
            asked = stub.GetModel.future(
                pb.GetModelRequest(), timeout=timeout, metadata=self._metadata
            )
            if stop:
                stop.add_callback(asked.cancel)
            try:
                answer: pb.GetModelResponse = asked.result()
            except grpc.FutureCancelledError as error:
                raise CloudBusyError(f"{self.address} was not waited for") from error
            finally:
                asked.cancel()  # an interrupt ends the waiting alone
            return answer

    def load(self, timeout: float) -> pb.GetLoadResponse:
        """How busy it is, asked now."""
        with self._stub() as stub:
            return stub.GetLoad(pb.GetLoadRequest(), timeout=timeout, metadata=self._metadata)

    @contextmanager
    def generate(
        self, message: pb.GenerateRequest, timeout: float | None, metadata: Metadata
    ) -> Iterator[Any]:
        """A call that gives the responses as they come; leaving the block ends the work there."""
        with self._stub(hurried=timeout is not None) as stub:
            call = stub.Generate(message, timeout=timeout, metadata=(*self._metadata, *metadata))
            try:
                yield call
            finally:
                call.cancel()

    def rest(self) -> None:
        """Make a new connection for the next call, this one having failed.

        gRPC would mend it by itself, when nobody asked, and refuse calls until it has. Calls that
        are under way on it may go on.
        """
        with self._lock:
            line, self._line = self._line, None
            if line and line.calls:
                self._resting.append(line)
            elif line:
                line.channel.close()

    def close(self) -> None:
        """Drop the connection for good, and with it what is under way."""
        with self._lock:
            self._closed = True
            for line in (self._line, *self._resting):
                if line:
                    line.channel.close()

    @contextmanager
    def _stub(self, *, hurried: bool = False) -> Iterator[pb_grpc.GeneratorStub]:
        line = self._open_line()
        try:
            yield pb_grpc.GeneratorStub(line.channel)
        except grpc.RpcError as error:
            raise failure(error, self.address, self._security, hurried=hurried) from error
        except ValueError as error:  # what gRPC says of a closed channel
            raise CloudUnavailableError(f"the connection to {self.address} is closed") from error
        finally:
            with self._lock:
                line.calls -= 1
                if not line.calls and line in self._resting:
                    self._resting.remove(line)
                    line.channel.close()

    def _open_line(self) -> "_Line":
        """The line for one more call."""
        with self._lock:
            if self._closed:
                raise CloudUnavailableError(f"the connection to {self.address} is closed")
            try:
                line = self._line = self._line or _Line(open_channel(self.address, self._security))
            except ConfigurationError as error:  # the files were sound once, and are being renewed
                raise CloudUnavailableError(str(error)) from error
            line.calls += 1
            return line


@dataclass(slots=True, eq=False)
class _Line:
    """A channel, and the calls under way on it."""

    channel: grpc.Channel
    calls: int = 0
