"""How many requests run and how many wait; the rest are refused at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class SlotsFullError(Exception):
    """Every slot is taken and the queue is full."""


class Slots:
    """`running` requests at once, and a queue of `waiting` behind them."""

    def __init__(self, running: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(running)
        self._capacity = running + waiting
        self.held = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return once no slot is held."""
        await self._idle.wait()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for a slot and hold it; raises SlotsFullError instead of joining a full queue."""
        if self.held >= self._capacity:
            raise SlotsFullError
        self.held += 1
        self._idle.clear()
        try:
            async with self._free:
                yield
        finally:
            self.held -= 1
            if not self.held:
                self._idle.set()
