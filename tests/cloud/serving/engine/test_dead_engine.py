"""An engine that cannot go on: what its callers get, and that it can be closed."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.engine import engine as engine_module
from edgewise_cloud.serving.engine.request import EngineRequest
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.types import Caller, RefusedError
from tests.conftest import token_request
from tests.support.service import RunningEngine, running_engine

ANYBODY = Caller(name="anybody")


@pytest.fixture
def running(exact_folder: Path) -> Iterator[RunningEngine]:
    """An engine of its own: it does not survive the test."""
    with running_engine(str(exact_folder), EngineSettings(slots=2, queue=2)) as engine:
        yield engine


async def end_of(request: EngineRequest) -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        async for _ in request:
            pass
    return refusal.value


@pytest.mark.parametrize(
    ("program", "error"), [("reset", MemoryError("full")), ("decode", SystemExit(3))]
)
def test_all_its_requests_end(
    running: RunningEngine, program: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """Running or waiting, also where clearing up after a failed step fails; new ones are refused."""

    def fail() -> None:
        raise error

    async def test() -> None:
        gate = running.programs.decode_gate
        gate.close()
        requests = [running.engine.submit(token_request([each], 50), ANYBODY) for each in range(4)]
        submitted = [await each.__aenter__() for each in requests]
        await asyncio.to_thread(running.start_waiting, 2)
        running.programs.before["decode"] = running.programs.before[program] = fail
        gate.open()
        codes = {(await end_of(each)).code for each in submitted}
        assert codes == {grpc.StatusCode.UNAVAILABLE}
        await asyncio.wrap_future(running.engine.died)
        with pytest.raises(RefusedError, match="stopped working") as refusal:
            await running.engine.submit(token_request([1], 1), ANYBODY).__aenter__()
        assert refusal.value.code is grpc.StatusCode.UNAVAILABLE
        assert running.held == 0

    asyncio.run(test())
    assert "the engine died" in caplog.text
    assert "full" not in caplog.text


def test_closing_does_not_wait_for_a_step_that_hangs(
    running: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests end UNAVAILABLE, and the engine is dead, whatever becomes of the step."""
    monkeypatch.setattr(engine_module, "STOP_TIMEOUT", 0.05)

    async def test() -> None:
        gate = running.programs.decode_gate
        gate.close()
        async with running.engine.submit(token_request([1], 50), ANYBODY) as request:
            await asyncio.to_thread(gate.wait)
            await asyncio.to_thread(running.engine.close)
            assert (await end_of(request)).code is grpc.StatusCode.UNAVAILABLE
            assert running.engine.died.done()
            gate.open()

    asyncio.run(test())
    monkeypatch.undo()
    running.engine.close()
    assert running.held == 0
