"""The streams for asyncio, over the real runtime and a tiny model."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import (
    DeviceState,
    LatencyLog,
    Limits,
    NoSourceError,
    RequestError,
    Router,
    Source,
    VetoCode,
)
from edgewise_edge import FinishReason

PROMPT = "in the winter the water was"
LONG = {"max_tokens": 150, "temperature": 0.0}
ENDLESS = {"max_tokens": 10**6, "sliding_window": True}
PROMPTS = [f"{count} the water was" for count in range(8)]


def router_on(folder: Path, **settings: object) -> Router:
    state = DeviceState()
    return Router(folder, device=lambda: state, latency=LatencyLog(), threads=1, **settings)


@pytest.fixture
def router(exact_folder: Path) -> Iterator[Router]:
    """A router that has its model loaded; whatever a test did, nothing runs on it afterwards."""
    others = ours()
    with router_on(exact_folder) as router:
        router.warm_up()
        yield router
        wait_until_idle(router)
    for thread in ours() - others:
        thread.join()


def ours() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("edgewise-")}


def wait_until_idle(router: Router) -> None:
    """Until nothing is written on the device; the test's timeout is the limit."""
    while router.device_source.running:
        time.sleep(0.001)


def wait_until_busy(router: Router) -> None:
    """Until something is."""
    while not router.device_source.running:
        time.sleep(0.001)


def test_async_for_gives_what_stream_gives(router: Router) -> None:
    """The same chunks, and the same result."""

    async def read() -> list:
        stream = router.astream(PROMPT, **LONG)
        return [chunk async for chunk in stream], stream.generation, stream.decision

    with router.stream(PROMPT, **LONG) as stream:
        expected = list(stream)
    chunks, generation, decision = asyncio.run(read())
    assert chunks == expected
    assert generation.token_ids == stream.generation.token_ids
    assert generation.finish_reason is FinishReason.LENGTH
    assert decision.source is Source.ON_DEVICE


def test_agenerate_and_aroute_are_generate_and_route(router: Router) -> None:
    """Awaited."""
    assert (
        asyncio.run(router.agenerate(PROMPT, **LONG)).text == router.generate(PROMPT, **LONG).text
    )
    assert asyncio.run(router.aroute(PROMPT)).source is router.route(PROMPT).source


def test_many_tasks_get_each_its_own_text(router: Router) -> None:
    """What each would have got alone."""

    async def all_of_them() -> list:
        return await asyncio.gather(*(router.agenerate(prompt, **LONG) for prompt in PROMPTS))

    texts = [generation.text for generation in asyncio.run(all_of_them())]
    assert texts == [router.generate(prompt, **LONG).text for prompt in PROMPTS]


def test_other_tasks_go_on_meanwhile(router: Router) -> None:
    """The loop is never held up by a text."""
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def both() -> None:
        ticking = asyncio.create_task(tick())
        async for _ in router.astream(PROMPT, **LONG):
            assert ticks
            ticks.clear()
        ticking.cancel()

    asyncio.run(both())


@pytest.mark.parametrize("read_first", [0, 3])
def test_cancelling_a_task_stops_the_work(router: Router, read_first: int) -> None:
    """Before a chunk and between two: the device is free again, and the text is cancelled."""

    async def cancelled() -> FinishReason | None:
        stream, begun = router.astream(PROMPT, **ENDLESS), asyncio.Event()

        async def read() -> None:
            count = 0
            async for _ in stream:
                count += 1
                if count >= read_first:
                    begun.set()

        task = asyncio.create_task(read())
        if read_first:
            await begun.wait()
        else:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until_idle, router)
        assert [chunk async for chunk in stream] == []
        return stream.generation.finish_reason if read_first else None

    assert asyncio.run(cancelled()) in (None, FinishReason.CANCELLED)


def test_cancelling_agenerate_stops_the_work(router: Router) -> None:
    """As a time-out does."""

    async def cancelled() -> None:
        task = asyncio.create_task(router.agenerate(PROMPT, **ENDLESS))
        await asyncio.to_thread(wait_until_busy, router)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until_idle, router)

    asyncio.run(cancelled())


def test_closing_in_the_middle_keeps_what_was_written(router: Router) -> None:
    """And gives nothing more."""

    async def closed() -> None:
        stream = router.astream(PROMPT, **LONG)
        chunk = await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert not router.device_source.running
        assert stream.generation.finish_reason is FinishReason.CANCELLED
        assert stream.generation.text.startswith(chunk.text)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(closed())


def test_leaving_the_block_closes(router: Router) -> None:
    """Also when it is left by an error."""

    async def left() -> None:
        async with router.astream(PROMPT, **LONG) as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(left())
    assert not router.device_source.running


@pytest.mark.parametrize("read_first", [0, 1])
def test_dropping_it_is_enough(router: Router, read_first: int) -> None:
    """The work stops and its thread ends, and nothing has to look for cycles first."""
    others = ours()

    async def dropped() -> None:
        stream = router.astream(PROMPT, **LONG)
        for _ in range(read_first):
            await anext(stream)
        del stream
        await asyncio.to_thread(wait_until_idle, router)

    gc.disable()
    try:
        asyncio.run(dropped())
        for thread in ours() - others:
            thread.join()
    finally:
        gc.enable()


def test_closing_before_it_began_does_no_work(router: Router) -> None:
    """Nothing is decided, and nothing can be asked of it."""

    async def closed() -> None:
        stream = router.astream(PROMPT)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
        with pytest.raises(RuntimeError, match="not started"):
            _ = stream.generation
        with pytest.raises(RuntimeError, match="not started"):
            _ = stream.decision

    asyncio.run(closed())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": 0}, RequestError),
        ({"mode": "only_in_cloud"}, NoSourceError),
        ({"max_token": 3}, TypeError),
    ],
)
def test_errors_come_with_the_first_chunk(
    router: Router, options: dict[str, object], error: type[Exception]
) -> None:
    """What stream raises at once; making it raises nothing."""

    async def asked() -> None:
        stream = router.astream(PROMPT, **options)
        with pytest.raises(error):
            await anext(stream)
        with pytest.raises(error):
            await router.agenerate(PROMPT, **options)

    asyncio.run(asked())


def test_more_than_the_device_takes_at_once_are_refused(exact_folder: Path) -> None:
    """By an error that says so, while those it writes go on."""

    async def crowd() -> None:
        with router_on(exact_folder, limits=Limits(max_queue=2)) as router:
            streams = [router.astream(PROMPT, **LONG) for _ in range(2)]
            for stream in streams:
                await anext(stream)
            assert streams[1].decision.queue_length == 1
            with pytest.raises(NoSourceError) as refused:
                await anext(router.astream(PROMPT, **LONG))
            assert refused.value.vetoes[Source.ON_DEVICE].code is VetoCode.QUEUE_FULL
            for stream in streams:
                assert len([chunk async for chunk in stream]) > 1
            assert (await router.agenerate(PROMPT, max_tokens=3)).finish_reason == "length"

    asyncio.run(crowd())


def test_after_an_error_there_is_nothing_more(router: Router) -> None:
    """It is raised once, as by a generator."""

    async def asked() -> None:
        stream = router.astream(PROMPT, mode="only_in_cloud")
        with pytest.raises(NoSourceError):
            await anext(stream)
        assert [chunk async for chunk in stream] == []

    asyncio.run(asked())
