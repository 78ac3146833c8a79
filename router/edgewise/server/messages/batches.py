"""Items of an asyncio iterator in batches: those that are there at the same time."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

_MOST = 64  # items that wait

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class _Here(Generic[Item]):
    item: Item


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None = None


async def together(items: AsyncIterator[Item]) -> AsyncGenerator[list[Item], None]:
    """All items, in order; no batch is empty. What `items` raises is raised after what came before.

    `items` are read in a task of their own, which ends with this generator.
    """
    ready: asyncio.Queue[_Here[Item] | _End] = asyncio.Queue(_MOST)

    async def read() -> None:
        try:
            async for item in items:
                await ready.put(_Here(item))
            await ready.put(_End())
        except Exception as error:  # noqa: BLE001  # raised below
            await ready.put(_End(error))

    reading = asyncio.create_task(read())
    try:
        while True:
            batch, next_ = list[Item](), await ready.get()
            while isinstance(next_, _Here):
                batch.append(next_.item)
                if ready.empty():
                    break
                next_ = ready.get_nowait()
            if batch:
                yield batch
            if isinstance(next_, _End):
                if next_.error:
                    raise next_.error
                return
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
