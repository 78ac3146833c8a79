"""Chunks from a stream that runs in a thread, for asyncio."""

import asyncio  # imported late: it takes 30 ms
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

from edgewise.generation.result import Chunk

_IN_A_ROW = 16  # chunks, without a turn for other tasks
# A step on the device keeps every core busy. So each time that the reader's thread wakes up, it waits
# for a core, or slows the step down: it is woken seldom, and has a moment to pass on the first chunk.
_APART = 5e-3  # seconds from a wake-up of the reader to the next
_FIRST = 1e-3  # seconds without a step after the first chunk
_LOOK = 1.0  # seconds between two looks whether the reader's loop has ended


class ReadAhead:
    """The thread calls `fill`, the task of `loop` calls `get`; up to `ahead` chunks wait for it.

    Without it each chunk would take two switches of threads, one to ask for it and one to get it,
    and the stream would stand still meanwhile: 90 µs for a token. Chunks that follow each other
    within 5 ms may arrive together.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ahead: int) -> None:
        self._loop, self._limit = loop, ahead
        self._items: deque[Chunk | BaseException | None] = deque()  # None: the end
        self._room = threading.Event()
        self._closed = False
        self._waiting = False  # the reader waits, and has to be woken
        self._arrived = asyncio.Event()
        self._ended = asyncio.Event()
        self._in_a_row = 0  # chunks that were there already when they were asked for
        self._woken = 0.0  # when the reader was, by the loop's clock
        self.delivered = False  # the reader has had a chunk

    def fill(self, chunks: Iterator[Chunk]) -> None:
        """In the thread: read to the end, or until it is closed or nobody can read any more."""
        try:
            for chunk in chunks:
                self._put(chunk)
                if len(self._items) >= self._limit:
                    self._await_room()
                if self._closed or self._loop.is_closed():
                    break  # another task may still wait for the end
            self._put(None)
        except BaseException as error:  # noqa: BLE001  # the reader raises it
            self._put(error)
        finally:
            self._tell(self._ended.set)

    async def get(self) -> Chunk | None:
        """The next chunk; None at the end. Raises what the stream raises."""
        self._in_a_row += 1
        if self._in_a_row > _IN_A_ROW:  # other tasks have their turn however fast the thread is
            self._in_a_row = 0
            await asyncio.sleep(0)
        while not self._items:
            self._in_a_row = 0
            await self._arrival()
        item = self._items.popleft()
        if not self._room.is_set() and len(self._items) <= self._limit // 2:
            self._room.set()
        if not isinstance(item, Chunk):
            self._items.append(None)  # another task may wait for the end too
        if isinstance(item, BaseException):
            raise item
        self.delivered = True
        return item

    async def _arrival(self) -> None:
        """Wait until there is something, or for the rest of the time until the next wake-up."""
        if (rest := self._woken + _APART - self._loop.time()) > 0:
            await asyncio.sleep(rest)
            return
        self._arrived.clear()
        self._waiting = True
        if not self._items:  # else it came just before
            await self._arrived.wait()
        self._woken = self._loop.time()

    def close(self) -> None:
        """Read no further. From any thread."""
        self._closed = True
        self._room.set()

    async def ended(self) -> None:
        """Wait until the thread has stopped, which is within a step once it is closed."""
        await self._ended.wait()

    def _put(self, item: Chunk | BaseException | None) -> None:
        self._items.append(item)
        if self._waiting:
            self._waiting = False
            self._tell(self._arrived.set)
            if not self.delivered:
                time.sleep(_FIRST)

    def _await_room(self) -> None:
        self._room.clear()
        while not self._closed and len(self._items) >= self._limit and not self._loop.is_closed():
            self._room.wait(_LOOK)

    def _tell(self, call: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop was closed meanwhile
            self._loop.call_soon_threadsafe(call)
