"""Places for texts, and the queue before them."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest

from edgewise.server.errors import HttpError
from edgewise.server.service.admission import AdmissionQueue


def run(test: Callable[[], Coroutine[None, None, None]]) -> None:
    """With a limit, so that a test that hangs says so."""
    asyncio.run(asyncio.wait_for(test(), 30))


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


class Visitor:
    """Takes a place and keeps it until `leave` is set."""

    def __init__(self, queue: AdmissionQueue, order: list[str], name: str) -> None:
        self.leave = asyncio.Event()
        self.task = asyncio.create_task(self._visit(queue, order, name))

    async def _visit(self, queue: AdmissionQueue, order: list[str], name: str) -> None:
        async with queue.place():
            order.append(name)
            await self.leave.wait()


def test_requests_wait_in_their_order_and_one_too_many_is_refused() -> None:
    """With 429 and a time to wait."""

    async def test() -> None:
        queue, order = AdmissionQueue(1, 2), list[str]()
        visitors = [Visitor(queue, order, name) for name in "abc"]
        await settle()
        assert (order, queue.running, queue.waiting) == (["a"], 1, 2)
        with pytest.raises(HttpError) as refused:
            async with queue.place():
                pass
        assert (refused.value.status, refused.value.retry_after) == (429, 1.0)
        for visitor in visitors:
            visitor.leave.set()
            await visitor.task
        assert (order, queue.running, queue.waiting) == (["a", "b", "c"], 0, 0)

    run(test)


def test_one_that_gives_up_leaves_the_queue() -> None:
    """Cancelled while it waits; the next one moves up."""

    async def test() -> None:
        queue, order = AdmissionQueue(1, 2), list[str]()
        first, second, third = (Visitor(queue, order, name) for name in "abc")
        await settle()
        second.task.cancel()
        await settle()
        assert queue.waiting == 1
        first.leave.set()
        await settle()
        assert order == ["a", "c"]
        third.leave.set()
        await third.task
        assert (queue.running, queue.waiting) == (0, 0)

    run(test)


@pytest.mark.parametrize("cancel_first", [True, False])
def test_no_place_is_lost_to_one_that_gives_up_as_its_turn_comes(cancel_first: bool) -> None:
    """Whichever comes first, its cancellation or its turn."""

    async def test() -> None:
        queue, order = AdmissionQueue(1, 2), list[str]()
        first, second, third = (Visitor(queue, order, name) for name in "abc")
        await settle()
        if cancel_first:
            second.task.cancel()
            first.task.cancel()
        else:
            first.task.cancel()
            await asyncio.sleep(0)
            second.task.cancel()
        await settle()
        assert order[-1] == "c"
        third.leave.set()
        await third.task
        assert (queue.running, queue.waiting) == (0, 0)

    run(test)
