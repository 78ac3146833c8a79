"""gRPC's asyncio server, made to stand what strangers send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from grpc._cython import cygrpc  # type: ignore[attr-defined]

from edgewise_cloud.serving.engine.settings import EngineSettings

Handler: TypeAlias = Any  # grpc.RpcMethodHandler, a named tuple that its stubs do not show as one
Context: TypeAlias = Any

# Everything a request may hold fits, unpacked as well; 10 MB of ids does not.
MAX_REQUEST_BYTES = 256 * 1024
# Streams on one connection, beside all that the engine takes: health, and calls to be refused.
MORE_STREAMS = 100

# In seconds.
PING_AFTER = 30.0  # a peer that says nothing is asked whether it is there,
PONG_WITHIN = 10.0  # and its connection closed if it does not say so: nobody else would do it
LEAST_BETWEEN_PINGS = 5.0  # of a client's own; gRPC's default, 300, would cut off those that ask
HELLO_WITHIN = 20.0  # from connecting until HTTP/2 (and TLS) is agreed on
IDLE = 1800.0  # without calls, a connection is closed; gRPC's own clients do so then, too

_tasks: set[asyncio.Task[None]] = set()  # the loop itself does not keep them


def grpc_server(
    engine: EngineSettings, interceptors: Sequence[grpc.aio.ServerInterceptor]
) -> grpc.aio.Server:
    """A server with limits on what a connection may do.

    `maximum_concurrent_rpcs` is not among them: whoever reached it would lock everybody out, health
    checks too. The engine's queue bounds the work, and a call that only waits costs 14 kB.
    """
    plain, cygrpc.AioServer = cygrpc.AioServer, _AioServer
    try:
        return grpc.aio.server(interceptors=[*interceptors, Unreadable()], options=_options(engine))
    finally:
        cygrpc.AioServer = plain


def _options(engine: EngineSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
        # A second server on the port must fail, not share it.
        ("grpc.so_reuseport", 0),
        # Without it, one connection that opens and resets streams fills gRPC's list of calls to
        # be accepted (1000), and everybody's are thrown out of it at random.
        ("grpc.max_concurrent_streams", engine.slots + engine.queue + MORE_STREAMS),
        ("grpc.keepalive_time_ms", _milliseconds(PING_AFTER)),
        ("grpc.keepalive_timeout_ms", _milliseconds(PONG_WITHIN)),  # for data sent, by TCP;
        ("grpc.http2.ping_timeout_ms", _milliseconds(PONG_WITHIN)),  # by default 60 s in 1.85
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # no limit
        ("grpc.http2.min_ping_interval_without_data_ms", _milliseconds(LEAST_BETWEEN_PINGS)),
        ("grpc.server_handshake_timeout_ms", _milliseconds(HELLO_WITHIN)),
        ("grpc.max_connection_idle_ms", _milliseconds(IDLE)),
    ]


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


class _AioServer(cygrpc.AioServer):  # type: ignore[misc]
    """Answers calls of methods that are none by itself.

    gRPC's own loop decodes their names, and one that is not UTF-8 ends the whole server (1.85.1,
    _server_main_loop). All real methods are registered, which takes them another way.
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
    with suppress(grpc.aio.BaseError):  # abort raises one always, and another when nobody is there
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "there is no such method here")


class Unreadable(grpc.aio.ServerInterceptor):
    """Refuses messages that are none. gRPC would say UNKNOWN, and name Python's exception."""

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
            return handler._replace(stream_stream=_guarded_stream(handler.stream_stream))
        parse = handler.request_deserializer
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        guarded = _guarded(getattr(handler, kind), parse)
        return handler._replace(request_deserializer=None, **{kind: guarded})


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
