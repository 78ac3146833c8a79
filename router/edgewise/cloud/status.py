"""What a gRPC status means to the router."""

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

DETAILS = "grpc-status-details-bin"  # trailing metadata: a google.rpc.Status

_NO_ACCESS = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_UNAVAILABLE = {
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
}


def failure(
    error: grpc.RpcError, address: str, security: CloudSecurity, *, hurried: bool
) -> SourceFailedError:
    """The error of ours that says what `error` means and what to do.

    `hurried`: the deadline was the request's own, not how long a sound cloud may take at most.
    """
    code, details = error.code(), error.details()
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return VocabularyMismatchError(f"{address}: {details}")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return CloudBusyError(f"{address} is busy: {details}", retry_after=_retry_after(error))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and hurried:
        return CloudBusyError(f"{address} cannot answer in time: {details}")
    if code in _NO_ACCESS:
        problem = "does not know the token" if security.token else "asks for a token"
        return CloudAccessError(
            f"{address} {problem} ({code.name}); check that the token set here is one that "
            "'edgewise-cloud token' made for that service"
        )
    if code in _UNAVAILABLE:
        return CloudUnavailableError(_silence(code, details, address, security))
    return CloudRefusedError(f"{address} refused the request: {details}")


def _silence(
    code: grpc.StatusCode, details: str | None, address: str, security: CloudSecurity
) -> str:
    if security.encrypted:
        return (
            f"{address} does not answer over TLS ({code.name}: {details}); check that "
            "'edgewise-cloud serve' runs there with TLS, that its certificate is for that host "
            "and from an authority trusted here, and whether it asks for a client's certificate"
        )
    return (
        f"{address} does not answer ({code.name}); check that 'edgewise-cloud serve' "
        "runs there, and without TLS"
    )


def _retry_after(error: grpc.RpcError) -> float:
    """Seconds after which to come back, by google.rpc.RetryInfo; 0 where it says nothing."""
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
                return max(0.0, float(retry.retry_delay.ToTimedelta().total_seconds()))
        except (DecodeError, OverflowError, ValueError):
            break
    return 0.0
