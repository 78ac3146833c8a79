"""What is there at the same time goes to the client at once: server.batches."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from edgewise.server.messages.batches import together


async def numbers(*groups: int, error: Exception | None = None) -> AsyncIterator[int]:
    """Groups of so many numbers; nothing for a moment after each."""
    number = 0
    for size in groups:
        for _ in range(size):
            yield number
            number += 1
        for _ in range(5):  # turns of the loop
            await asyncio.sleep(0)
    if error:
        raise error


async def batches(items: AsyncIterator[int]) -> list[list[int]]:
    """All of them."""
    return [batch async for batch in together(items)]


def test_items_that_are_there_together_are_one_batch() -> None:
    """In order; what comes later is another one."""
    assert asyncio.run(batches(numbers(3, 1, 2))) == [[0, 1, 2], [3], [4, 5]]
    assert asyncio.run(batches(numbers())) == []


def test_more_than_fit_are_several_batches() -> None:
    """The source waits for who reads slowly."""
    found = asyncio.run(batches(numbers(1000)))
    assert [number for batch in found for number in batch] == list(range(1000))
    assert max(map(len, found)) < 200


def test_error_comes_after_the_items_before_it() -> None:
    """Nothing is lost."""
    seen: list[int] = []

    async def read() -> None:
        async for batch in together(numbers(2, error=ValueError("broken"))):
            seen.extend(batch)

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(read())
    assert seen == [0, 1]


def test_leaving_it_ends_the_reading() -> None:
    """At once, whether or not there was more."""
    ended = []

    async def source() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def leave() -> None:
        found = together(source())
        assert await anext(found) == [1]
        await found.aclose()
        assert ended == [True]

    asyncio.run(leave())
