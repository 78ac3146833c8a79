"""A network that fails when told to: a TCP proxy between a router and its cloud."""

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tests.support.token_boundaries import TokenEnds

PIECE = 65536  # bytes read at once
PIECES = 20  # a second, while throttled


class Kind(StrEnum):
    """What can happen."""

    DELAY = "delay"
    THROTTLE = "throttle"
    STALL = "stall"
    CUT = "cut"
    RESET = "reset"
    REFUSE = "refuse"
    HANG_UP = "hang_up"


ENDING = {Kind.CUT, Kind.RESET}
TURNING_AWAY = {Kind.CUT, Kind.RESET, Kind.HANG_UP}


@dataclass(eq=False)
class Fault:
    """What is to happen once so much more, over all connections, has passed to the device."""

    kind: Kind
    bytes_left: int
    tokens_left: int
    amount: float = 0.0  # DELAY: seconds; THROTTLE: bytes per second

    @property
    def due(self) -> bool:
        """Whether it is in force."""
        return not self.bytes_left and not self.tokens_left

    def before(self, chunk: bytes, token_ends: list[int]) -> int:
        """How much of `chunk` passes before it is."""
        last = len(chunk)
        if self.tokens_left <= len(token_ends):
            last = token_ends[self.tokens_left - 1] if self.tokens_left else 0
        return max(last, min(self.bytes_left, len(chunk)))

    def passed(self, octets: int, tokens: int) -> None:
        """Count down."""
        self.bytes_left = max(0, self.bytes_left - octets)
        self.tokens_left = max(0, self.tokens_left - tokens)

    async def wait(self, octets: int) -> int:
        """Hold so many bytes; returns how many of them may pass then."""
        if self.kind is Kind.STALL or self.kind in ENDING:
            await asyncio.Event().wait()
        elif self.kind is Kind.DELAY:
            await asyncio.sleep(self.amount)
        elif self.kind is Kind.THROTTLE:
            octets = min(octets, max(1, int(self.amount / PIECES)))
            await asyncio.sleep(octets / self.amount)
        return octets


@dataclass(eq=False)
class Connection:
    """One that the device has made, and the one to the cloud that belongs to it."""

    device: asyncio.StreamWriter
    cloud: asyncio.StreamWriter
    token_ends: TokenEnds = field(default_factory=TokenEnds)

    def end(self, *, reset: bool = False) -> None:
        """End both; towards the device with FIN, after what is underway, or with RST."""
        end(self.device, reset=reset)
        self.cloud.close()


class FaultProxy:
    """Forwards connections to `target`, HOST:PORT, which may be changed for those to come.

    A fault is in force when its method returns, or once `after_bytes` or `after_tokens` more (with
    both, the later) have passed to the device over all connections, exactly; and from then on for
    every connection, until another takes its place or `heal` is called. What counts as a token is
    said in message_ends.py. What goes to the cloud passes always.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.address = "127.0.0.1:0"
        self.connections = 0  # that were not turned away
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
        """Hold what comes for so long; what comes meanwhile is held in its turn, as one."""
        self._arm(Fault(Kind.DELAY, after_bytes, after_tokens, seconds))

    def throttle(self, rate: float, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Let so many bytes a second pass on each connection."""
        self._arm(Fault(Kind.THROTTLE, after_bytes, after_tokens, rate))

    def stall(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Let nothing pass. A connection that has been held up stays so, healed or not."""
        self._arm(Fault(Kind.STALL, after_bytes, after_tokens))

    def cut(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """End every connection with FIN."""
        self._arm(Fault(Kind.CUT, after_bytes, after_tokens))

    def reset(self, *, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """End every connection with RST."""
        self._arm(Fault(Kind.RESET, after_bytes, after_tokens))

    def refuse(self, *, accept: bool = False, after_bytes: int = 0, after_tokens: int = 0) -> None:
        """Take no new connections: do not listen, or accept and close at once."""
        kind = Kind.HANG_UP if accept else Kind.REFUSE
        self._arm(Fault(kind, after_bytes, after_tokens))

    def heal(self) -> None:
        """Forward again."""
        self._arm(None)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        """End all connections, and listen no more."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _arm(self, fault: Fault | None) -> None:
        self._call(self._set(fault))

    def _call(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _set(self, fault: Fault | None) -> None:
        self._fault = fault
        await self._listen()
        self._strike()

    async def _listen(self) -> None:
        if self._listening is None:
            host, port = self.address.split(":")
            self._listening = await asyncio.start_server(self._accept, host, int(port))
            self.address = f"{host}:{self._listening.sockets[0].getsockname()[1]}"

    def _listen_no_more(self) -> None:
        if self._listening:
            self._listening.close()
            self._listening = None

    async def _end(self) -> None:
        self._listen_no_more()
        for connection in self._connections:
            connection.device.transport.abort()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)  # asyncio closes sockets in its next rounds

    @property
    def _kind(self) -> Kind | None:
        """What happens now."""
        return self._fault.kind if self._fault and self._fault.due else None

    def _strike(self) -> None:
        """What happens whether or not more bytes come."""
        if self._kind in ENDING:
            for connection in self._connections:
                connection.end(reset=self._kind is Kind.RESET)
        elif self._kind is Kind.REFUSE:
            self._listen_no_more()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._kind in TURNING_AWAY:
            end(writer, reset=self._kind is Kind.RESET)
            return
        self.connections += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        # Cancelled at the end only; asyncio would tell of that as of an error.
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
        """Forward both ways until either side ends; the other is ended likewise."""
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
            finally:  # also when the proxy is stopped meanwhile
                connection.end(reset=any(isinstance(error, ConnectionError) for error in ends))

    async def _to_cloud(self, connection: Connection, device: asyncio.StreamReader) -> None:
        while chunk := await device.read(PIECE):
            connection.token_ends.to_cloud(chunk)
            self.bytes_to_cloud += len(chunk)
            connection.cloud.write(chunk)
            await connection.cloud.drain()

    async def _to_device(self, connection: Connection, cloud: asyncio.StreamReader) -> None:
        while chunk := await cloud.read(PIECE):
            ends = connection.token_ends.to_device(chunk)
            while chunk:
                fault = self._fault
                step = fault.before(chunk, ends) if fault else len(chunk)
                # A fault that was healed meanwhile holds nothing up any more.
                step = step or await fault.wait(len(chunk))
                tokens = sum(end <= step for end in ends)
                await self._pass(connection, chunk[:step], tokens)
                chunk, ends = chunk[step:], [end - step for end in ends[tokens:]]

    async def _pass(self, connection: Connection, octets: bytes, tokens: int) -> None:
        connection.device.write(octets)
        await connection.device.drain()
        self.bytes_to_device += len(octets)
        self.tokens_to_device += tokens
        if self._fault and not self._fault.due:
            self._fault.passed(len(octets), tokens)
            self._strike()


def end(writer: asyncio.StreamWriter, *, reset: bool = False) -> None:
    """Close with FIN, after what is underway, or with RST."""
    if reset:
        linger = struct.pack("ii", 1, 0)
        ours = writer.get_extra_info("socket")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    else:
        writer.close()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy before `target`, HOST:PORT, until the block ends."""
    proxy = FaultProxy(target)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
