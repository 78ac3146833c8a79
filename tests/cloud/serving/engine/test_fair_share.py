"""Callers share slots and queue evenly, without a setting."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.engine.fair_share import in_fair_order
from edgewise_cloud.serving.engine.request import EngineRequest
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.types import Caller, RefusedError
from tests.conftest import token_request
from tests.support.service import RunningEngine, running_engine


@pytest.fixture(scope="module")
def engine(exact_folder: Path) -> Iterator[RunningEngine]:
    with running_engine(str(exact_folder), EngineSettings(slots=2, queue=2)) as running:
        yield running


def requests(names: str) -> list[EngineRequest]:
    return [EngineRequest(token_request([1], 1), Caller(name=name)) for name in names]


@pytest.mark.parametrize(
    ("waiting", "running", "order"),
    [
        ("aaa", "", "aaa"),
        ("aaab", "", "abaa"),
        ("aab", "aa", "baa"),
        ("abab", "a", "baba"),
        ("aabbc", "ab", "cabab"),
    ],
)
def test_the_caller_with_the_fewest_requests_is_next(
    waiting: str, running: str, order: str
) -> None:
    """Among equals, who came first."""
    ordered = in_fair_order(requests(waiting), requests(running))
    assert "".join(each.caller.name for each in ordered) == order


def test_one_caller_cannot_lock_others_out(engine: RunningEngine) -> None:
    """Where it has everything, its last request gives way; the other caller's is then the next."""

    async def test(stack: AsyncExitStack) -> None:
        def submit(name: str, **caller: float) -> "asyncio.Future[EngineRequest]":
            request, who = token_request([1], 50, temperature=0), Caller(name=name, **caller)
            return asyncio.ensure_future(
                stack.enter_async_context(engine.engine.submit(request, who))
            )

        gate.close()
        greedy = [await submit("greedy") for _ in range(4)]
        await asyncio.to_thread(engine.start_waiting, 2)
        engine.step_times.clear()
        engine.step_times.record_step(2, 1.0)
        with pytest.raises(RefusedError, match="queue is full"):
            await submit("greedy")
        # Enough for one greedy request before it, and not for three.
        other = await submit("other", deadline=time.monotonic() + 120)
        with pytest.raises(RefusedError, match="others need") as refusal:
            async for _ in greedy[-1]:
                pass
        assert refusal.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.value.retry_after
        with pytest.raises(RefusedError, match="queue is full"):
            await submit("greedy")
        assert engine.held == 4
        gate.open()
        assert [token async for token, *_ in other]
        assert greedy[2].started_at is not None
        assert other.started_at <= greedy[2].started_at

    async def main() -> None:
        async with AsyncExitStack() as stack:
            await test(stack)

    with engine.gated() as gate:
        asyncio.run(main())
