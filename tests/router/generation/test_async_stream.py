"""Asyncio streams of a router on the real runtime with a tiny model."""

import asyncio
import gc
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import Chunk, Limits, NoSourceError, RequestError, Router, Source, VetoCode
from edgewise.generation.stream import READ_AHEAD
from edgewise_edge import FinishReason
from tests.router.routers import new_router

PROMPT = "in the winter the water was"
LONG = {"max_tokens": 150, "temperature": 0.0}
ENDLESS = {"max_tokens": 10**6, "sliding_window": True, "temperature": 0.0}  # has no end token
PROMPTS = [f"{count} the water was" for count in range(8)]


@pytest.fixture
def router(exact_folder: Path) -> Iterator[Router]:
    """A router with a loaded model. After the test, its streams and threads must end."""
    before = router_threads()
    with new_router(exact_folder) as router:
        router.warm_up()
        yield router
        wait_until_idle(router)
    wait_until_ended(before)


def router_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("edgewise-")}


def wait_until_ended(before: set[threading.Thread]) -> None:
    """Until none is left but those `before`; one that is just being started cannot be joined."""
    while router_threads() - before:
        time.sleep(0.001)


def wait_until_idle(router: Router) -> None:
    """Until nothing runs on the device; the test's timeout is the limit."""
    while router.device_source.running:
        time.sleep(0.001)


def wait_until_busy(router: Router) -> None:
    """Until a generation runs on the device."""
    while not router.device_source.running:
        time.sleep(0.001)


def test_astream_yields_what_stream_yields(router: Router) -> None:
    """The same chunks and the same result."""

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


def test_agenerate_and_aroute_return_what_generate_and_route_return(router: Router) -> None:
    """For the same prompt and options."""
    assert (
        asyncio.run(router.agenerate(PROMPT, **LONG)).text == router.generate(PROMPT, **LONG).text
    )
    assert asyncio.run(router.aroute(PROMPT)).source is router.route(PROMPT).source


def test_concurrent_tasks_do_not_mix_their_answers(router: Router) -> None:
    """Each gets the text that it would get alone."""

    async def generate_all() -> list:
        return await asyncio.gather(*(router.agenerate(prompt, **LONG) for prompt in PROMPTS))

    texts = [generation.text for generation in asyncio.run(generate_all())]
    assert texts == [router.generate(prompt, **LONG).text for prompt in PROMPTS]


def test_streaming_does_not_block_the_event_loop(router: Router) -> None:
    """Another task runs between any few chunks."""
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(1)
            await asyncio.sleep(0)

    async def stream_while_ticking() -> None:
        ticking = asyncio.create_task(tick())
        chunks = 0
        async for _ in router.astream(PROMPT, **LONG):
            chunks += 1
            assert len(ticks) >= chunks // (READ_AHEAD + 1)
        assert chunks > READ_AHEAD
        ticking.cancel()

    asyncio.run(stream_while_ticking())


def test_the_work_keeps_to_the_pace_of_who_reads(router: Router) -> None:
    """It is a chunk ahead, and one in the making, where that is asked for."""

    async def most_ahead() -> int:
        stream, read, most = router.astream(PROMPT, **LONG), 0, 0
        stream.read_ahead = 1
        async for chunk in stream:
            read += len(chunk.token_ids)
            await asyncio.sleep(0.001)  # time to run ahead
            most = max(most, len(stream.generation.token_ids) - read)
        return most

    assert asyncio.run(most_ahead()) <= 4  # tokens: a chunk has several where one is half a letter


@pytest.mark.parametrize("chunks", [-1, "3", 1.5, None, True])
def test_read_ahead_is_a_number_of_chunks(router: Router, chunks: object) -> None:
    """What is none is refused when it is set, not found out by a stream that stands still."""
    stream = router.astream(PROMPT)
    with pytest.raises(
        RequestError, match=r"read_ahead is .*; it must be a whole number of chunks"
    ):
        stream.read_ahead = chunks
    assert stream.read_ahead == READ_AHEAD


@pytest.mark.parametrize(("first", "later"), [(1, 0), (0, 1)])
def test_read_ahead_may_be_set_late(router: Router, first: int, later: int) -> None:
    """A thread that reads ahead already goes on to do so; nothing waits for it in vain."""

    async def read() -> str:
        stream = router.astream(PROMPT, **LONG)
        stream.read_ahead = first
        text = (await anext(stream)).text
        stream.read_ahead = later
        await stream.start()  # nor does this: it has started
        return text + "".join([chunk.text async for chunk in stream])

    assert asyncio.run(read()) == router.generate(PROMPT, **LONG).text


@pytest.mark.parametrize("ahead", [0, 2])
def test_several_tasks_may_read_one_stream(router: Router, ahead: int) -> None:
    """Each chunk goes to one of them, whichever asks first for the first; all see the end."""

    async def read() -> list[str]:
        stream = router.astream(PROMPT, **LONG)
        stream.read_ahead = ahead
        texts = []

        async def read_on() -> None:
            async for chunk in stream:
                texts.append(chunk.text)
                await asyncio.sleep(0)

        await asyncio.gather(*(read_on() for _ in range(3)))
        return texts

    assert sorted(asyncio.run(read())) == sorted(
        chunk.text for chunk in router.stream(PROMPT, **LONG)
    )


@pytest.mark.parametrize("ahead", [0, 1])
def test_closing_while_the_stream_starts_ends_it(exact_folder: Path, ahead: int) -> None:
    """The task that waits for its first chunk learns that there is none."""
    starting, go = threading.Event(), threading.Event()

    def classify(_prompt: str) -> str:
        starting.set()
        go.wait()
        return "allow_cloud"

    async def close() -> list[Chunk]:
        with new_router(exact_folder, classify=classify) as router:
            stream = router.astream(PROMPT)
            stream.read_ahead = ahead

            async def read() -> list[Chunk]:
                return [chunk async for chunk in stream]

            reading = asyncio.create_task(read())
            await asyncio.to_thread(starting.wait)
            await stream.aclose()
            go.set()
            return await reading

    assert asyncio.run(close()) == []


@pytest.mark.parametrize("read_first", [0, 3])
def test_cancelling_the_task_stops_the_device(router: Router, read_first: int) -> None:
    """Before the first chunk or later; the stream then ends as cancelled."""

    async def cancel() -> FinishReason | None:
        stream, enough = router.astream(PROMPT, **ENDLESS), asyncio.Event()

        async def read() -> None:
            count = 0
            async for _ in stream:
                count += 1
                if count >= read_first:
                    enough.set()

        task = asyncio.create_task(read())
        if read_first:
            await enough.wait()
        else:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until_idle, router)
        assert [chunk async for chunk in stream] == []
        return stream.generation.finish_reason if read_first else None

    assert asyncio.run(cancel()) is (FinishReason.CANCELLED if read_first else None)


def test_cancelling_agenerate_stops_the_device(router: Router) -> None:
    """So does a timeout around it."""

    async def cancel() -> None:
        task = asyncio.create_task(router.agenerate(PROMPT, **ENDLESS))
        await asyncio.to_thread(wait_until_busy, router)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(wait_until_idle, router)

    asyncio.run(cancel())


def test_closing_stops_the_device_and_keeps_the_answer_so_far(router: Router) -> None:
    """There are no more chunks; closing twice is no error."""

    async def close() -> None:
        stream = router.astream(PROMPT, **LONG)
        chunk = await anext(stream)
        await stream.aclose()
        await stream.aclose()
        assert not router.device_source.running
        assert stream.generation.finish_reason is FinishReason.CANCELLED
        assert stream.generation.text.startswith(chunk.text)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(close())


def test_leaving_the_context_manager_closes_the_stream(router: Router) -> None:
    """Also with an exception."""

    async def leave() -> None:
        async with router.astream(PROMPT, **LONG) as stream:
            await anext(stream)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asyncio.run(leave())
    assert not router.device_source.running


@pytest.mark.parametrize("read_first", [0, 1])
def test_dropping_the_stream_stops_the_device(router: Router, read_first: int) -> None:
    """Its thread ends too; there is no reference cycle that would need the garbage collector."""
    before = router_threads()

    async def drop() -> None:
        stream = router.astream(PROMPT, **LONG)
        for _ in range(read_first):
            await anext(stream)
        del stream
        await asyncio.to_thread(wait_until_idle, router)

    gc.disable()
    try:
        asyncio.run(drop())
        wait_until_ended(before)
    finally:
        gc.enable()


def test_closing_before_the_first_chunk_starts_nothing(router: Router) -> None:
    """There is no decision and no generation."""

    async def close() -> None:
        stream = router.astream(PROMPT)
        await stream.aclose()
        assert [chunk async for chunk in stream] == []
        with pytest.raises(RuntimeError, match="not started"):
            _ = stream.generation
        with pytest.raises(RuntimeError, match="not started"):
            _ = stream.decision

    asyncio.run(close())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_tokens": 0}, RequestError),
        ({"mode": "only_in_cloud"}, NoSourceError),
        ({"max_token": 3}, TypeError),
    ],
)
def test_errors_are_raised_with_the_first_chunk(
    router: Router, options: dict[str, object], error: type[Exception]
) -> None:
    """`stream` raises them itself; `astream` does not."""

    async def read() -> None:
        stream = router.astream(PROMPT, **options)
        with pytest.raises(error):
            await anext(stream)
        with pytest.raises(error):
            await router.agenerate(PROMPT, **options)

    asyncio.run(read())


def test_streams_over_the_queue_limit_are_refused(exact_folder: Path) -> None:
    """The streams that run continue, and the next one after them may run."""

    async def fill_the_queue() -> None:
        with new_router(exact_folder, limits=Limits(max_queue=2, queue_timeout=0.01)) as router:
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

    asyncio.run(fill_the_queue())


def test_stream_ends_after_an_error(router: Router) -> None:
    """The error is raised once, as by a generator."""

    async def read() -> None:
        stream = router.astream(PROMPT, mode="only_in_cloud")
        with pytest.raises(NoSourceError):
            await anext(stream)
        assert [chunk async for chunk in stream] == []

    asyncio.run(read())
