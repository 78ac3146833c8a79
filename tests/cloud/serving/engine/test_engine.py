"""The engine without a server: admission, expected times, and what failures leave behind."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.request import TokenRequest
from tests.conftest import token_request
from tests.support.gated_programs import Gate
from tests.support.generate_requests import until
from tests.support.service import RunningEngine, running_engine

ANYBODY = Caller(name="anybody")
PROMPT = [5, 17, 100, 42]
GREEDY = {"temperature": 0}


@pytest.fixture
def shared(exact_folder: Path) -> Iterator[RunningEngine]:
    """Of each test its own, one at a time: they use the same compiled programs."""
    settings = EngineSettings(slots=2, queue=2, per_caller=3)
    with running_engine(str(exact_folder), settings) as running:
        yield running


@pytest.fixture
def gate(shared: RunningEngine) -> Iterator[Gate]:
    """The decode gate of the shared engine, idle and without expectations."""
    with shared.gated() as gate:
        yield gate


@pytest.fixture
def engine(shared: RunningEngine, gate: Gate) -> RunningEngine:
    """The shared one, with nothing running and no expectations."""
    return shared


async def generate(
    running: RunningEngine, request: TokenRequest, caller: Caller = ANYBODY
) -> list[int]:
    async with running.engine.submit(request, caller) as submitted:
        return [token async for token, *_ in submitted]


@asynccontextmanager
async def held(
    running: RunningEngine, *requests: TokenRequest, name: str = "held"
) -> AsyncIterator[None]:
    """These are submitted while the block runs."""
    submitted = [running.engine.submit(request, Caller(name=name)) for request in requests]
    for one in submitted:
        await one.__aenter__()
    try:
        yield
    finally:
        for one in submitted:
            await one.__aexit__(None, None, None)


async def refuses(running: RunningEngine) -> None:
    """Return once it refuses requests."""
    with suppress(RefusedError):
        while True:
            async with running.engine.submit(token_request(PROMPT, 1), ANYBODY):
                await asyncio.sleep(0.01)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def test_a_closed_engine_refuses_requests(exact_folder: Path) -> None:
    """A running request ends UNAVAILABLE; closing twice does no harm."""
    with running_engine(str(exact_folder), EngineSettings(slots=2, queue=1)) as running:
        engine, gate = running.engine, running.programs.decode_gate

        async def test() -> None:
            gate.close()
            gate.let_pass(20)
            request = token_request(PROMPT, 180, **GREEDY)
            async with engine.submit(request, ANYBODY) as submitted:
                tokens = aiter(submitted)
                await anext(tokens)
                closing = asyncio.create_task(asyncio.to_thread(engine.close))
                await refuses(running)
                gate.open()
                await closing
                with pytest.raises(RefusedError) as refusal:
                    async for _ in tokens:
                        pass
                assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(RefusedError) as refusal:
                await generate(running, token_request(PROMPT, 1))
            assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
            assert running.held == 0

        run(test)
        engine.close()


@pytest.mark.parametrize("program", ["decode", "prefill"])
def test_a_program_that_fails_leaks_no_slot(
    engine: RunningEngine, gate: Gate, program: str
) -> None:
    """However often: running requests get INTERNAL, and the next one is answered as before."""
    long = token_request([*range(100, 200), *PROMPT], 8, **GREEDY)

    def fail() -> None:
        raise OSError("made to fail")

    async def test() -> None:
        expected = await generate(engine, long)
        engine.programs.before[program] = fail
        for _ in range(3):
            with pytest.raises(RefusedError) as refusal:
                await generate(engine, long)
            assert refusal.value.code is grpc.StatusCode.INTERNAL
            assert "made to fail" not in str(refusal.value)
        engine.programs.before.clear()
        assert await generate(engine, long) == expected
        gate.close()
        async with held(engine, *[token_request(PROMPT, 5)] * 2):
            await asyncio.to_thread(engine.start_waiting, 2)
        gate.open()

    run(test)


def test_a_stall_locks_nobody_out(engine: RunningEngine) -> None:
    """One slow step does not change the expected time: a request with enough time is admitted."""
    for seconds in (0.01, 0.01, 5.0):
        engine.step_times.record_step(1, seconds)
    caller = Caller(name="hurried", deadline=time.monotonic() + 200)
    tokens = asyncio.run(generate(engine, token_request(PROMPT, 50, **GREEDY), caller))
    assert len(tokens) == 50


@pytest.mark.parametrize(("others", "refused"), [(0, False), (2, True)])
def test_a_deadline_can_be_missed_because_of_the_queue(
    engine: RunningEngine, gate: Gate, others: int, refused: bool
) -> None:
    """Three tokens at 100 s each fit into 1000 s, but not behind two requests for 100 tokens."""
    gate.close()
    engine.step_times.record_step(1, 100.0)
    caller = Caller(name="held", deadline=time.monotonic() + 1000)

    async def test() -> None:
        async with held(engine, *[token_request(PROMPT, 100)] * others):
            submitted = engine.engine.submit(token_request(PROMPT, 3), caller)
            if refused:
                with pytest.raises(RefusedError, match="this would take"):
                    await submitted.__aenter__()
            else:
                async with submitted:
                    pass

    run(test)


def test_an_end_token_may_come_first(engine: RunningEngine, gate: Gate) -> None:
    """So with end tokens, a deadline too early for all tokens is no reason to refuse."""
    gate.close()
    engine.step_times.record_step(1, 100.0)
    caller = Caller(name="hurried", deadline=time.monotonic() + 1000)
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
            await generate(engine, whole, caller)
        async with engine.engine.submit(open_ended, caller):
            pass

    run(test)


@pytest.mark.parametrize("queued", [False, True])
def test_the_deadline_ends_an_admitted_request(
    engine: RunningEngine, gate: Gate, queued: bool
) -> None:
    """Without being cancelled: while it waits, and while it runs."""

    async def test() -> None:
        others = [token_request(PROMPT, 150, **GREEDY)] * (2 if queued else 0)
        gate.close()
        async with held(engine, *others):
            late = Caller(name="held", deadline=time.monotonic() + 1.0)
            request = token_request(PROMPT, 150, **GREEDY)
            async with engine.engine.submit(request, late) as submitted:
                await asyncio.to_thread(gate.wait)
                await asyncio.to_thread(until, lambda: late.is_late(time.monotonic()))
                gate.let_pass(1)
                with pytest.raises(RefusedError) as refusal:
                    async for _ in submitted:
                        pass
            assert refusal.value.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert (submitted.started_at is None) is queued

    run(test)


def test_a_callers_share_includes_waiting_requests(engine: RunningEngine, gate: Gate) -> None:
    """A fourth request of one caller is refused; another caller's is not."""
    gate.close()
    engine.step_times.record_step(1, 2.0)

    async def test() -> None:
        async with held(engine, *[token_request(PROMPT, 9)] * 3, name="greedy"):
            with pytest.raises(RefusedError, match="its share") as refusal:
                await generate(engine, token_request(PROMPT, 9), Caller(name="greedy"))
            assert refusal.value.retry_after
            async with engine.engine.submit(token_request(PROMPT, 9), Caller(name="other")):
                assert engine.held == 4

    run(test)


def test_its_load_follows_its_work(engine: RunningEngine, gate: Gate) -> None:
    """Tokens per second, and an expected wait that falls as tokens are generated."""

    def expected_wait() -> float:
        engine.step_times.clear()
        engine.step_times.record_step(2, 100.0)
        return engine.engine.current_load().expected_wait

    async def test() -> None:
        gate.close()
        async with held(engine, *[token_request([7], 180, **GREEDY)] * 2):
            await asyncio.to_thread(engine.start_waiting, 2)
            before = expected_wait()
            gate.let_pass(20)
            await asyncio.to_thread(gate.wait)
            assert engine.engine.current_load().tokens_per_second > 0
            assert before - 20 * 100 <= expected_wait() < before

    run(test)


def test_a_request_knows_its_cached_tokens(engine: RunningEngine) -> None:
    """How many of its prompt's tokens were found in the prefix cache."""
    prompt = [*range(1, 80), *PROMPT]

    async def test() -> None:
        await generate(engine, token_request(prompt, 2, **GREEDY))
        request = token_request([*prompt, 9], 2, **GREEDY)
        async with engine.engine.submit(request, ANYBODY) as again:
            assert [token async for token, *_ in again]
        assert again.cached_tokens == 64

    run(test)
