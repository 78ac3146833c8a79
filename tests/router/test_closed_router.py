"""Closing a router: once, by asyncio too, and what it refuses afterwards."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from edgewise import EdgewiseError, Router, RouterClosedError, Source, StreamNotStartedError
from edgewise.testing import ScriptedCloud, ScriptedDevice

TEXT = "Once upon a time"


def closed_router() -> Router:
    router = Router(ScriptedDevice(TEXT), cloud=ScriptedCloud(TEXT))
    router.close()
    return router


@pytest.mark.parametrize(
    "use",
    [
        lambda router: router.stream("A"),
        lambda router: router.generate("A"),
        lambda router: router.route("A"),
        lambda router: anext(router.astream("A")),
        lambda router: router.agenerate("A"),
        lambda router: router.aroute("A"),
        Router.warm_up,
        Router.measure,
        Router.describe_cloud,
        Router.__enter__,
        Router.__aenter__,
    ],
)
def test_closed_router_refuses(use: Callable[[Router], object]) -> None:
    """With an error that is a RuntimeError, as from a closed executor, and says what to do."""

    async def use_it() -> None:
        await use(closed_router())

    with pytest.raises(RouterClosedError, match="create another") as refused:
        asyncio.run(use_it())
    assert isinstance(refused.value, EdgewiseError)
    assert isinstance(refused.value, RuntimeError)


def test_closing_again_does_nothing() -> None:
    """The sources are closed once."""
    closings = []

    class CountingCloud(ScriptedCloud):
        def close(self) -> None:
            closings.append(1)

    with Router(ScriptedDevice(), cloud=CountingCloud()) as router:
        router.close()
        router.close()
    assert closings == [1]


def test_running_stream_outlives_its_router() -> None:
    """It is the app's, which may close it."""
    with Router(ScriptedDevice(TEXT)) as router:
        stream = router.stream("A")
        text = next(stream).text
    assert text + "".join(chunk.text for chunk in stream) == TEXT


def test_leaving_async_with_closes_without_blocking_the_event_loop() -> None:
    """Another task runs while the connection is being closed."""
    other_task_ran = threading.Event()

    class SlowCloud(ScriptedCloud):
        def close(self) -> None:
            assert other_task_ran.wait(60)

    async def run_other_task() -> None:
        other_task_ran.set()

    async def use() -> Router:
        async with Router(ScriptedDevice(TEXT), cloud=SlowCloud()) as router:
            generation = await router.agenerate("A")
            assert (generation.text, generation.source) == (TEXT, Source.ON_DEVICE)
            asyncio.get_running_loop().call_soon(
                lambda: tasks.append(asyncio.create_task(run_other_task()))
            )
        return router

    tasks: list[asyncio.Task[None]] = []
    with pytest.raises(RouterClosedError):
        asyncio.run(use()).stream("A")


def test_stream_that_has_not_started_says_so() -> None:
    """With a typed error."""
    with Router(ScriptedDevice(TEXT)) as router:
        stream = router.astream("A")
        for name in ("decision", "generation"):
            with pytest.raises(StreamNotStartedError, match="await its first chunk"):
                getattr(stream, name)
