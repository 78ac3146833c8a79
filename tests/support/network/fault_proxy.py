"""A network that fails on request: a TCP proxy between a router and its cloud."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from tests.support.network.fault import ENDS_CONNECTIONS, REJECTS_CONNECTIONS, Fault, Kind
from tests.support.network.token_boundaries import TokenBoundaries

READ_SIZE = 65536  # bytes


@dataclass(eq=False)
class Connection:
    """A connection from the device, and its counterpart to the cloud."""

    device: asyncio.StreamWriter
    cloud: asyncio.StreamWriter
    boundaries: TokenBoundaries = field(default_factory=TokenBoundaries)

    def end(self, *, reset: bool = False) -> None:
        """End both; the device sees a FIN after what was written, or a RST."""
        end(self.device, reset=reset)
        self.cloud.close()


class FaultProxy:
    """Forwards connections to `target`, HOST:PORT. Changing it affects new connections.

    A fault takes effect when its method returns, or after exactly `after_bytes` or `after_tokens`
    more to the device over all connections (with both, the later). It then holds for every
    connection until another fault replaces it or `heal` is called. token_boundaries.py says what
    counts as a token. Bytes to the cloud always pass.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = "127.0.0.1:0"
        self.connections = 0  # accepted and forwarded
        self.bytes_to_cloud = 0
        self.bytes_to_device = 0
        self.tokens_to_device = 0
        self._fault: Fault | None = None
        self._connections: set[Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def delay(self, seconds: float, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Hold each read back for `seconds`; what arrives in that time is the next read."""
        self._arm(Fault(Kind.DELAY, after_bytes, after_tokens, seconds))

    def throttle(self, rate: float, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Limit each connection to `rate` bytes a second."""
        self._arm(Fault(Kind.THROTTLE, after_bytes, after_tokens, rate))

    def stall(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Forward nothing. A connection on which bytes were held stays stalled, even after `heal`."""
        self._arm(Fault(Kind.STALL, after_bytes, after_tokens))

    def cut(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """End every connection with FIN."""
        self._arm(Fault(Kind.CUT, after_bytes, after_tokens))

    def reset(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """End every connection with RST."""
        self._arm(Fault(Kind.RESET, after_bytes, after_tokens))

    def refuse(self, *, accept: bool = False, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Take no new connections: stop listening, or accept and close at once."""
        kind = Kind.HANG_UP if accept else Kind.REFUSE
        self._arm(Fault(kind, after_bytes, after_tokens))

    def heal(self) -> None:
        """End the fault."""
        self._arm(None)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """End all connections and stop listening."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _arm(self, fault: Fault | None) -> None:
        self._call(self._set(fault))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _set(self, fault: Fault | None) -> None:
        self._fault = fault
        await self._listen()
        self._apply()

    async def _listen(self) -> None:
        if self._listening is None:
            host, port = self.address.split(":")
            self._listening = await asyncio.start_server(self._accept, host, int(port))
            self.address = f"{host}:{self._listening.sockets[0].getsockname()[1]}"

    def _stop_listening(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None

    async def _end(self) -> None:
        self._stop_listening()
        for connection in self._connections:
            connection.device.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # asyncio closes sockets in its next iterations

    @property
    def _kind(self) -> Kind | None:
        """The fault in effect."""
        return self._fault.kind if self._fault and self._fault.active else None

    def _apply(self) -> None:
        """Do what does not wait for more bytes."""
        if self._kind in ENDS_CONNECTIONS:
            for connection in self._connections:
                connection.end(reset=self._kind is Kind.RESET)
        elif self._kind is Kind.REFUSE:
            self._stop_listening()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._kind in REJECTS_CONNECTIONS:
            end(writer, reset=self._kind is Kind.RESET)
            return
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        # It is cancelled only by `stop`; asyncio would log that as an error.
        with suppress(OSError, asyncio.CancelledError):
            cloud, to_cloud = await asyncio.open_connection(*self.target.split(":"))
            connection = Connection(writer, to_cloud)
            self._connections.add(connection)
            try:
                await self._both(connection, reader, cloud)
            finally:
                self._connections.discard(connection)
        end(writer)
        self._tasks.discard(task)

    async def _both(
        self, connection: Connection, device: asyncio.StreamReader, cloud: asyncio.StreamReader
    ) -> None:
        """Forward both ways until either end closes; then close the other in the same way."""
        pumps = [
            asyncio.ensure_future(self._to_cloud(connection, device)),
            asyncio.ensure_future(self._to_device(connection, cloud)),
        ]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            ends = list[object]()
            try:
                ends = await asyncio.gather(*pumps, return_exceptions=True)
            finally:  # also when the proxy is stopped here
                connection.end(reset=any(isinstance(error, ConnectionError) for error in ends))

    async def _to_cloud(self, connection: Connection, device: asyncio.StreamReader) -> None:
        while chunk := await device.read(READ_SIZE):
            connection.boundaries.to_cloud(chunk)
            self.bytes_to_cloud += len(chunk)
            connection.cloud.write(chunk)
            await connection.cloud.drain()

    async def _to_device(self, connection: Connection, cloud: asyncio.StreamReader) -> None:
        while chunk := await cloud.read(READ_SIZE):
            ends = connection.boundaries.to_device(chunk)
            while chunk:
                fault = self._fault
                step = fault.before(chunk, ends) if fault else len(chunk)
                # A fault that was healed while this waited holds nothing back.
                step = step or await fault.wait(len(chunk))
                tokens = sum(end <= step for end in ends)
                await self._pass(connection, chunk[:step], tokens)
                chunk, ends = chunk[step:], [end - step for end in ends[tokens:]]

    async def _pass(self, connection: Connection, octets: bytes, tokens: int) -> None:
        connection.device.write(octets)
        await connection.device.drain()
        self.bytes_to_device += len(octets)
        self.tokens_to_device += tokens
        if self._fault and not self._fault.active:
            self._fault.count(len(octets), tokens)
            self._apply()


def end(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    """Close with FIN, after what was written, or with RST."""
    if reset:
        linger = struct.pack("ii", 1, 0)
        ours = writer.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy in front of `target`, HOST:PORT."""
    proxy = FaultProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
