"""Reading the files of a channel from a cloud service: `grpc://HOST:PORT`.

On a connection of its own: what it carries says nothing of prompts, and delays none.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

from edgewise.cloud import grpc_logs  # noqa: F401  # must come before gRPC

# isort: split
import grpc

from edgewise.cloud.channel import open_channel
from edgewise.cloud.config import CloudSecurity, File
from edgewise.cloud.stall_timer import StallTimer
from edgewise.cloud.status import error_for_status
from edgewise.errors import CloudBusyError, CloudUnavailableError, ConfigurationError
from edgewise_edge.installed.fetcher import FetchError, FetchFailure, Reply
from edgewise_proto import delivery_pb2 as pb
from edgewise_proto import delivery_pb2_grpc as pb_grpc
from edgewise_proto.address import Address, AddressError, parse_address

CONNECT_TIMEOUT, STALL_TIMEOUT = 10.0, 30.0  # seconds, where no settings say otherwise


class Settings(Protocol):
    """What is read of edgewise.delivery's DownloadSettings."""

    @property
    def connect_timeout(self) -> float:
        """Seconds until the service has answered."""

    @property
    def stall_timeout(self) -> float:
        """Seconds without a byte."""

    @property
    def root_certificates(self) -> File | None:
        """The authorities to trust; None: gRPC's public roots."""

    def read_token(self) -> str | None:
        """The token, if there is one."""


class GrpcFetcher:
    """A Fetcher of the channel that `edgewise-cloud serve --channel` serves at HOST:PORT.

    `security` is as for prompts. Without it, the connection uses TLS, with the settings' root
    certificates and token; to this machine only where root certificates are set. Raises
    ConfigurationError; nothing connects before the first `open`.
    """

    def __init__(
        self,
        address: str,
        settings: Settings | None = None,
        security: CloudSecurity | None = None,
    ) -> None:
        try:
            self._address = parse_address(address.rstrip("/"), "the channel's address")
        except AddressError as error:
            raise ConfigurationError(str(error)) from error
        self._security = security or _security(self._address, settings)
        self._connect_timeout = settings.connect_timeout if settings else CONNECT_TIMEOUT
        self._stall_timeout = settings.stall_timeout if settings else STALL_TIMEOUT
        token = self._security.token
        self._metadata = (("authorization", f"Bearer {token}"),) if token else ()
        # None after a failure: gRPC would fail calls until it has reconnected in the background.
        self._channel: grpc.Channel | None = open_channel(self._address, self._security)

    def __str__(self) -> str:
        """The address."""
        return f"grpc://{self._address}"

    def open(self, path: str, offset: int = 0, validator: str = "") -> Reply:
        """See Fetcher."""
        request = pb.FetchRequest(name=path, offset=offset, version=validator)
        with ExitStack() as stack, self._errors_in_words(path):
            if self._channel is None:
                self._channel = open_channel(self._address, self._security)
            call = pb_grpc.DeliveryStub(self._channel).Fetch(request, metadata=self._metadata)
            stack.callback(call.cancel)
            timer = stack.enter_context(StallTimer(self._connect_timeout, call.cancel))
            try:
                first = next(call)
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.OUT_OF_RANGE and offset:
                    return self.open(path)  # the file has become shorter: it is another
                if timer.stalled:
                    raise self._stalled(self._connect_timeout) from error
                raise
            except StopIteration:
                raise self._broken("sent nothing") from None
            timer.timeout = self._stall_timeout
            timer.pause()
            if first.offset not in {0, offset}:
                raise self._broken(f"sent byte {first.offset:,} for byte {offset:,}")
            close = stack.pop_all().close
        return Reply(
            offset=first.offset,
            size=first.size,
            chunks=self._chunks(path, call, timer, first),
            close=close,
            validator=first.version,
        )

    def close(self) -> None:
        """Close the connection, which ends open transfers; the next `open` makes a new one."""
        if self._channel:
            self._channel.close()
            self._channel = None

    def _chunks(self, path: str, call: Any, timer: StallTimer, first: pb.Chunk) -> Iterator[bytes]:
        """The data; the time that its user takes is not the service's."""
        position = first.offset
        try:
            with self._errors_in_words(path):
                timer.reset()
                for chunk in call:
                    timer.pause()
                    if chunk.offset != position:
                        raise self._broken(f"sent byte {chunk.offset:,} for byte {position:,}")
                    position += len(chunk.data)
                    yield chunk.data
                    timer.reset()
        except FetchError as error:
            if timer.stalled:
                raise self._stalled(self._stall_timeout) from error
            raise
        finally:
            timer.pause()

    @contextmanager
    def _errors_in_words(self, path: str) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            raise self._failure(path, error) from error
        except ValueError as error:  # raised by gRPC for a closed channel
            raise FetchError(
                FetchFailure.TEMPORARY, f"the connection to {self} was closed"
            ) from error

    def _failure(self, path: str, error: grpc.RpcError) -> FetchError:
        code = error.code()
        if code is grpc.StatusCode.NOT_FOUND:
            return FetchError(FetchFailure.MISSING, f"{self} has no {path}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return FetchError(
                FetchFailure.REFUSED,
                f"{self} serves no channel; start 'edgewise-cloud serve' there with --channel",
            )
        meant = error_for_status(error, str(self), self._security, caller_deadline=False)
        if isinstance(meant, CloudBusyError):
            return FetchError(FetchFailure.TEMPORARY, str(meant), retry_after=meant.retry_after)
        temporary = isinstance(meant, CloudUnavailableError)
        if temporary:
            self.close()
        return FetchError(FetchFailure.TEMPORARY if temporary else FetchFailure.REFUSED, str(meant))

    def _stalled(self, seconds: float) -> FetchError:
        return FetchError(FetchFailure.TEMPORARY, f"{self} sent nothing for {seconds:g} s")

    def _broken(self, what: str) -> FetchError:
        return FetchError(FetchFailure.TEMPORARY, f"{self} {what}")


def _security(address: Address, settings: Settings | None) -> CloudSecurity:
    roots = settings.root_certificates if settings else None
    return CloudSecurity(
        tls=not address.is_loopback,
        root_certificates=roots,
        token=settings.read_token() if settings else None,
    )
