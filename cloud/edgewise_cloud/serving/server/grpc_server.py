"""gRPC's asyncio server, hardened against hostile clients."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc._cython import cygrpc  # type: ignore[attr-defined]

Handler: TypeAlias = Any  # grpc.RpcMethodHandler, whose stubs show synchronous methods only
Context: TypeAlias = Any

# Everything a valid request may hold fits, also unpacked; 10 MB of ids does not.
MAX_REQUEST_BYTES = 256 * 1024
# Streams on one connection beyond those the service takes: for health, and calls to be refused.
EXTRA_STREAMS = 100

_tasks: set[asyncio.Task[None]] = set()  # the event loop holds weak references only


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """How long the server waits for its peers, in seconds."""

    keepalive_time: float = 30.0  # silence after which it sends a ping
    keepalive_timeout: float = 10.0  # without an answer to it, it closes the connection
    min_client_ping_interval: float = 5.0  # gRPC's default, 300, would cut off clients that ping
    handshake_timeout: float = 20.0  # from connecting until HTTP/2 (and TLS) is agreed on
    max_idle: float = 1800.0  # without calls; gRPC's clients close theirs then, too
    send_timeout: float = 60.0  # for which an answer is kept for a caller that does not read it


def grpc_server(
    streams: int,
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    limits: ConnectionLimits,
) -> grpc.aio.Server:
    """A server with limits on what a connection may do, for `streams` requests at once.

    `maximum_concurrent_rpcs` is not among them: one client could use it up and lock everybody out,
    health checks too. The engine's queue bounds the work, and a call that only waits costs 14 kB.
    """
    original, cygrpc.AioServer = cygrpc.AioServer, _AioServer
    try:
        return grpc.aio.server(
            interceptors=[*interceptors, RefuseMalformed()], options=_options(streams, limits)
        )
    finally:
        cygrpc.AioServer = original


def _options(streams: int, limits: ConnectionLimits) -> list[tuple[str, int]]:
    times = {
        "grpc.keepalive_time_ms": limits.keepalive_time,
        "grpc.keepalive_timeout_ms": limits.keepalive_timeout,  # for data sent, by TCP;
        "grpc.http2.ping_timeout_ms": limits.keepalive_timeout,  # by default 60 s in 1.85
        "grpc.http2.min_ping_interval_without_data_ms": limits.min_client_ping_interval,
        "grpc.server_handshake_timeout_ms": limits.handshake_timeout,
        "grpc.max_connection_idle_ms": limits.max_idle,
    }
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # A second server on the port must fail, not share it.
        ("grpc.so_reuseport", 0),
        # Without it, one connection that opens and resets streams fills gRPC's list of calls to
        # be accepted (1000), and random ones of all clients are dropped from it.
        ("grpc.max_concurrent_streams", streams + EXTRA_STREAMS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # no limit
        *((name, _milliseconds(seconds)) for name, seconds in times.items()),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]
    """Answers calls to unknown methods itself.

    gRPC's own loop decodes their names, and one that is not UTF-8 ends the whole server (1.85.1,
    _server_main_loop). Calls to registered methods do not come this way.
    """

    async def _request_call(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            call = await super()._request_call()
            context = cygrpc._ServicerContext(call, None, None, loop)  # noqa: SLF001
            task = loop.create_task(_refuse_method(context))
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)


async def _refuse_method(context: Context) -> None:
    with suppress(grpc.aio.BaseError):  # abort always raises one, and another if the peer is gone
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")


class RefuseMalformed(grpc.aio.ServerInterceptor):
    """Refuses malformed messages. gRPC would answer UNKNOWN, and name Python's exception."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """See grpc.aio.ServerInterceptor."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream),
                handler.request_deserializer,
                handler.response_serializer,
            )
        parse, serialize = handler.request_deserializer, handler.response_serializer
        if handler.response_streaming:
            guarded = _guarded(handler.unary_stream, parse)
            return grpc.unary_stream_rpc_method_handler(guarded, None, serialize)
        guarded = _guarded(handler.unary_unary, parse)
        return grpc.unary_unary_rpc_method_handler(guarded, None, serialize)


def _guarded(
    answer: Callable[[Any, Context], Awaitable[Any]], parse: Callable[[bytes], Any]
) -> Callable[[bytes, Context], Awaitable[Any]]:
    async def parsed(raw: bytes, context: Context) -> Any:
        try:
            request = parse(raw)
        except DecodeError:
            await _refuse_message(context)
        return await answer(request, context)

    return parsed


def _guarded_stream(
    answer: Callable[[Any, Context], AsyncIterator[Any]],
) -> Callable[[Any, Context], AsyncIterator[Any]]:
    async def parsed(requests: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in answer(requests, context):
                yield response
        except DecodeError:
            await _refuse_message(context)

    return parsed


async def _refuse_message(context: Context) -> None:
    await context.abort(
        grpc.StatusCode.INVALID_ARGUMENT, "the request is not a message of this method's type"
    )
