"""Maps a gRPC status to one of the router's errors."""

from typing import Any

import grpc

from edgewise.cloud.config import CloudSecurity
from edgewise.errors import (
    CloudAccessError,
    CloudBusyError,
    CloudRefusedError,
    CloudUnavailableError,
    SourceFailedError,
    VocabularyMismatchError,
)
from edgewise_edge.decoding.printable import printable

DETAILS = "grpc-status-details-bin"  # trailing metadata: a google.rpc.Status
MAX_RETRY_AFTER = 60.0  # seconds; a service that asks for more is asked again after these
_LONGEST_TEXT = 500  # characters of a service's text in an error

# What 'edgewise-cloud serve' says itself with UNAVAILABLE: it was reached.
OWN_WORDS = {
    "the model is still loading",
    "the model has stopped working",
    "the service is shutting down",
    "the answer was not read, and is not kept any longer",
    "no replica of the model is ready",
    "the replica that answered was lost",
}
_NO_ACCESS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_UNAVAILABLE = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


def error_for_status(
    error: grpc.RpcError, address: str, security: CloudSecurity, *, caller_deadline: bool
) -> SourceFailedError:
    """The router's error for `error`, which says what to do.

    `caller_deadline`: the deadline came from the caller's budget, not from our own timeouts, so
    missing it does not mean that the cloud is unhealthy.
    """
    code, details = error.code(), foreign_text(error.details() or "it gave no reason")
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return VocabularyMismatchError(f"{address}: {details}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return CloudBusyError(f"{address} is busy: {details}", retry_after=_retry_after(error))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and caller_deadline:
        return CloudBusyError(f"{address} cannot answer in time: {details}")
    if code in _NO_ACCESS:
        problem = "rejected the token" if security.token else "requires a token"
        return CloudAccessError(
            f"{address} {problem} ({code.name}); set a token that 'edgewise-cloud token' made for "
            "that service"
        )
    if code is grpc.StatusCode.UNAVAILABLE and details in OWN_WORDS:
        return CloudUnavailableError(f"{address} cannot answer now: {details}; retry later")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return CloudRefusedError(
            f"{address} does not know this kind of request; update 'edgewise-cloud' there"
        )
    if code in _UNAVAILABLE:
        return CloudUnavailableError(_no_answer(code, details, address, security))
    return CloudRefusedError(f"{address} refused the request: {details}")


def _no_answer(code: grpc.StatusCode, details: str, address: str, security: CloudSecurity) -> str:
    if security.encrypted:
        return (
            f"{address} does not answer over TLS ({code.name}: {details}); check that "
            "'edgewise-cloud serve' runs there with TLS, that its certificate is for that host "
            "and from an authority trusted here, and whether it requires a client certificate"
        )
    return (
        f"{address} does not answer ({code.name}); check that 'edgewise-cloud serve' runs there, "
        "and without TLS"
    )


def foreign_text(text: str) -> str:
    """A service's text for an error or a terminal: one line, no control characters, not too long."""
    shown = printable(text[: _LONGEST_TEXT + 1])
    return shown if len(shown) <= _LONGEST_TEXT else f"{shown[:_LONGEST_TEXT]}…"


def _retry_after(error: grpc.RpcError) -> float:
    """Seconds to wait before a retry, from google.rpc.RetryInfo: 0 if there is none, 60 at most."""
    from google.protobuf.message import DecodeError
    from google.rpc.error_details_pb2 import RetryInfo
    from google.rpc.status_pb2 import Status

    retry = RetryInfo()
    metadata: Any = error.trailing_metadata()
    for key, value in metadata or ():
        try:
            if key == DETAILS and any(
                detail.Unpack(retry) for detail in Status.FromString(value).details
            ):
                seconds = float(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
                return min(max(0.0, seconds), MAX_RETRY_AFTER)
        except DecodeError:
            break
    return 0.0
