"""The places of texts that are written at once; further requests wait, and too many are refused."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from edgewise.server.errors import HttpError


class AdmissionQueue:
    """`places` texts at once; up to `waiting` more requests wait, in their order.

    For one event loop.
    """

    def __init__(self, places: int, waiting: int) -> None:
        self.places, self._most_waiting = places, waiting
        self.running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many requests wait for a place."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place until the context ends. Raises HttpError (429) if too many wait already."""
        await self._enter()
        try:
            yield
        finally:
            self._leave()

    async def _enter(self) -> None:
        if self.running < self.places:
            self.running += 1
            return
        if len(self._waiting) >= self._most_waiting:
            raise HttpError(
                429,
                f"{self.running} texts are being written and {len(self._waiting)} requests wait; "
                "retry later",
                "rate_limit_error",
                code="busy",
                retry_after=1.0,
            )
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                self._waiting = deque(other for other in self._waiting if other is not turn)
            else:  # it had its place already
                self._leave()
            raise

    def _leave(self) -> None:
        """Give the place to the first that waits, or free it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else it was cancelled just now
                turn.set_result(None)
                return
        self.running -= 1
