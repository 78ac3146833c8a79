"""Bearer tokens: a file of their hashes, and the gRPC interceptor that checks them.

A token is 256 random bits, so an unsalted SHA-256 of it reveals nothing. A line of the file is
`NAME SHA256HEX`; `#` starts a comment. A name may have several tokens, for rotation.
"""

import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.security.reloading import Reloaded, read_bytes

if TYPE_CHECKING:
    # Generic for the type checker only.
    Handler: TypeAlias = grpc.RpcMethodHandler[Any, Any]
    Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

# Load balancers call it without a token.
HEALTH = "/grpc.health.v1.Health/"
# The same text for every failure: it tells an attacker nothing.
REFUSAL = "this service admits only calls with a bearer token that it knows"

# The name of the current call's token.
token_name: ContextVar[str | None] = ContextVar("token_name", default=None)

_NAME = rb"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}"
_LINE = re.compile(rb"(%s)[ \t]+([0-9a-fA-F]{64})" % _NAME)


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Admits calls with a known token; to health, any call."""

    def __init__(self, file: Path) -> None:
        """Raise ServeError for a file that cannot be read or has an invalid line."""
        logging.getLogger("grpc._cython.cygrpc").addFilter(_has_no_header)
        self._hashes = Reloaded([file], lambda: read_hashes(file))

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """See grpc.aio.ServerInterceptor."""
        if not handler_call_details.method.startswith(HEALTH):
            name = self._name(handler_call_details.invocation_metadata)
            if name is None:
                return _REFUSE
            token_name.set(name)  # the call's handler runs in this same task
        return await continuation(handler_call_details)

    def _name(self, metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
        """The token's name; None without a token, for an unknown one, or for more than one."""
        given = [value for key, value in metadata if key == "authorization"]
        if len(given) != 1 or not isinstance(given[0], str):
            return None
        scheme, _, token = given[0].partition(" ")
        if scheme.lower() != "bearer":
            return None
        # What the time of this could reveal is a hash, which is not a token.
        return self._hashes().get(_hash(token))


def read_hashes(file: Path) -> dict[str, str]:
    """The names in a token file by the tokens' hashes. Raises ServeError, which quotes no line."""
    names: dict[str, str] = {}
    for number, line in enumerate(read_bytes(file).splitlines(), start=1):
        entry = line.partition(b"#")[0].strip()
        if not entry:
            continue
        match = _LINE.fullmatch(entry)
        if not match:
            raise ServeError(
                f"{file}, line {number}: not NAME SHA256HEX, as 'edgewise-cloud token' writes it"
            )
        digest = match[2].decode().lower()
        if digest in names:
            raise ServeError(f"{file}, line {number}: the same token as on an earlier line")
        names[digest] = match[1].decode()
    return names


def new_token(name: str) -> tuple[str, str]:
    """A token, and its line for the file. Raises ServeError for an invalid name."""
    if not re.fullmatch(_NAME, name.encode()):
        raise ServeError(
            f"'{name}' cannot name a token; use up to 64 letters, digits and . _ @ -, "
            "the first of them a letter or digit"
        )
    token = secrets.token_urlsafe(32)
    return token, f"{name} {_hash(token)}"


def append_line(file: Path, line: str) -> None:
    """Add a line to a token file, created with mode 600 if missing. Raises ServeError."""
    try:
        # One appending write: a service that reads at the same time sees all of the line or nothing.
        descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as opened:
            read_hashes(file)  # refuse to append to any other file
            before = opened.read()
            ended = not before or before.endswith(b"\n")
            opened.write(f"{'' if ended else chr(10)}{line}\n".encode())
    except OSError as error:
        raise ServeError(f"cannot write {file}: {error.strerror}") from error


def _has_no_header(record: logging.LogRecord) -> bool:
    """Keep gRPC from logging headers that are not UTF-8: one may be a token with a stray byte."""
    return not str(record.msg).startswith("Invalid encoding on")


def _hash(token: str) -> str:
    return sha256(token.encode()).hexdigest()


async def _refuse(_requests: object, context: "Context") -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, REFUSAL)


# A handler that reads no request before it answers; clients of any method understand its status.
_REFUSE: "Handler" = grpc.stream_stream_rpc_method_handler(_refuse)
