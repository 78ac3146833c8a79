"""The engine by itself: who comes in, what is expected, and what failures leave behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgewise_cloud.serving.engine.engine import Engine
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import Pace
from edgewise_cloud.serving.server.server import load_engine
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.generate import TokenRequest
from tests.conftest import token_request

ANYBODY = Caller(name="anybody")
PROMPT = [5, 17, 100, 42]
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def shared(checkpoint: Path) -> Iterator[Engine]:
    engine = load_engine(str(checkpoint), EngineSettings(slots=2, queue=2, per_caller=3))
    yield engine
    engine.close()


@pytest.fixture
def engine(shared: Engine) -> Engine:
    """The shared one, with nothing running and no expectations."""
    while shared.load().running:
        time.sleep(0.01)
    shared._pace = Pace()
    return shared


async def written(engine: Engine, request: TokenRequest, caller: Caller = ANYBODY) -> list[int]:
    async with engine.run(request, caller) as run:
        return [token async for token, _ in run]


async def collect(engine: Engine, request: TokenRequest, caller: Caller, got: list[int]) -> None:
    """Like `written`, but what comes before an error is kept."""
    async with engine.run(request, caller) as run:
        async for token, _ in run:
            got.append(token)


@asynccontextmanager
async def held(engine: Engine, *requests: TokenRequest, name: str = "held") -> AsyncIterator[None]:
    """These are in the engine, as far as it lets them, while the block runs."""
    runs = [engine.run(request, Caller(name=name)) for request in requests]
    for run in runs:
        await run.__aenter__()
    try:
        yield
    finally:
        for run in runs:
            await run.__aexit__(None, None, None)


def stopped(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests wait: the thread sees none of them."""
    monkeypatch.setattr(engine, "_end_and_begin", lambda: time.sleep(0.01))


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("program", ["decode", "prefill"])
def test_a_program_that_fails_takes_no_slot_with_it(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """However often: those who run are told, and the next request is answered as before."""
    long = token_request([*range(100, 200), *PROMPT], 8, **GREEDY)

    async def test() -> None:
        expected = await written(engine, long)
        with monkeypatch.context() as patch:

            def fails(*_: object) -> None:
                raise OSError("made to fail")

            patch.setattr(engine._batch._programs, program, fails)
            for _ in range(3):
                with pytest.raises(RefusedError) as refusal:
                    await written(engine, long)
                assert refusal.value.code is grpc.StatusCode.INTERNAL
                assert "made to fail" not in str(refusal.value)
        assert engine._batch.free == 2
        assert await written(engine, long) == expected

    run(test)


def test_a_stall_locks_nobody_out(engine: Engine) -> None:
    """One slow step is no pace: who has time enough is let in."""
    for seconds in (0.01, 0.01, 5.0):
        engine._pace.stepped(1, seconds)
    caller = Caller(name="hurried", deadline=time.monotonic() + 30)
    run(lambda: _answers(engine, token_request(PROMPT, 50, **GREEDY), caller, 50))


async def _answers(engine: Engine, request: TokenRequest, caller: Caller, tokens: int) -> None:
    assert len(await written(engine, request, caller)) == tokens


@pytest.mark.parametrize(("waiting", "refused"), [(0, False), (2, True)])
def test_a_deadline_can_be_missed_for_the_queue_alone(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, waiting: int, refused: bool
) -> None:
    """Three tokens at a second each fit into ten, but not behind two times a hundred."""
    stopped(engine, monkeypatch)
    engine._pace.stepped(1, 1.0)
    caller = Caller(name="hurried", deadline=time.monotonic() + 10)

    async def test() -> None:
        async with held(engine, *[token_request(PROMPT, 100)] * waiting):
            coming = engine.run(token_request(PROMPT, 3), caller)
            if refused:
                with pytest.raises(RefusedError, match="this would take"):
                    await coming.__aenter__()
            else:
                async with coming:
                    pass

    run(test)


def test_an_end_token_may_come_first(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a deadline for less than all tokens is no reason to refuse."""
    stopped(engine, monkeypatch)
    engine._pace.stepped(1, 1.0)
    caller = Caller(name="hurried", deadline=time.monotonic() + 10)
    whole = token_request(PROMPT, 100)
    open_ended = TokenRequest(
        token_ids=whole.token_ids,
        prompt_tokens=4,
        max_tokens=100,
        sampling=whole.sampling,
        end_ids=frozenset({0}),
    )

    async def test() -> None:
        with pytest.raises(RefusedError):
            await written(engine, whole, caller)
        async with engine.run(open_ended, caller):
            pass

    run(test)


@pytest.mark.parametrize("waits", [False, True])
def test_the_deadline_ends_what_came_in_time(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """Though nobody cancels it: while it waits, and while it runs."""
    programs = engine._batch._programs
    decode = programs.decode
    monkeypatch.setattr(programs, "decode", lambda *n: (time.sleep(0.02), decode(*n))[1])

    async def test() -> None:
        others = [token_request(PROMPT, 150, **GREEDY)] * (2 if waits else 0)
        async with held(engine, *others):
            await asyncio.sleep(0.05)
            engine._pace = Pace()
            late = Caller(name="late", deadline=time.monotonic() + 0.3)
            got = list[int]()
            with pytest.raises(RefusedError) as refusal:
                await collect(engine, token_request(PROMPT, 150, **GREEDY), late, got)
            assert refusal.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert bool(got) is not waits

    run(test)


def test_a_callers_share_counts_what_waits(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of one caller's are here; another caller has room."""
    stopped(engine, monkeypatch)
    engine._pace.stepped(1, 2.0)

    async def test() -> None:
        async with held(engine, *[token_request(PROMPT, 9)] * 3, name="greedy"):
            with pytest.raises(RefusedError, match="its share") as refusal:
                await written(engine, token_request(PROMPT, 9), Caller(name="greedy"))
            assert refusal.value.retry_after
            async with engine.run(token_request(PROMPT, 9), Caller(name="other")):
                assert engine.load().waiting == 4

    run(test)


def test_its_load_follows_what_it_does(engine: Engine) -> None:
    """Tokens lately, and a wait that falls as texts are written."""

    async def test() -> None:
        requests = [token_request(PROMPT, 180, **GREEDY)] * 2
        waits = list[float]()
        async with engine.run(requests[0], ANYBODY) as first, engine.run(requests[1], ANYBODY):
            async for _ in first:
                waits.append(engine.load().expected_wait)
        assert max(waits[20:40]) > max(waits[160:175]) > 0
        assert engine.load().tokens_per_second > 10

    run(test)


def test_what_was_read_for_another_is_told(engine: Engine) -> None:
    """A prompt that begins alike: how many of its tokens were there."""
    prompt = [*range(1, 80), *PROMPT]

    async def test() -> None:
        await written(engine, token_request(prompt, 2, **GREEDY))
        async with engine.run(token_request([*prompt, 9], 2, **GREEDY), ANYBODY) as again:
            assert [token async for token, _ in again]
        assert again.reused == 64

    run(test)


def test_after_its_end_it_takes_nobody(checkpoint: Path) -> None:
    """What ran is told so; closing twice does no harm."""
    engine = load_engine(str(checkpoint), EngineSettings(slots=1, queue=1))

    async def test() -> None:
        async with engine.run(token_request(PROMPT, 180, **GREEDY), ANYBODY) as running:
            tokens = aiter(running)
            await anext(tokens)
            await asyncio.to_thread(engine.close)
            with pytest.raises(RefusedError) as refusal:
                async for _ in tokens:
                    pass
            assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(RefusedError) as refusal:
            await written(engine, token_request(PROMPT, 1))
        assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
        assert engine.load().running == 0

    run(test)
    engine.close()
