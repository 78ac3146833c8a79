"""Serving while programs are compiled."""

import asyncio
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from edgewise_cloud.serving.engine.engine import Engine
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import StepTimeEstimator
from edgewise_cloud.serving.model.interface import Compilations
from edgewise_cloud.serving.types import Caller, RefusedError
from tests.conftest import token_request
from tests.support.gated_programs import GatedPrograms
from tests.support.service import loaded_model

SETTINGS = EngineSettings(slots=2, queue=2)
ANYBODY = Caller(name="anybody")


class LaterPrograms(GatedPrograms):
    """Programs of which one more is to be compiled while they serve."""

    def __init__(self, programs: GatedPrograms, compile_: Callable[[], None]) -> None:
        super().__init__(programs)
        self._compile = compile_

    def compilations(self, *sizes: object) -> Compilations:
        found = super().compilations(*sizes)
        return Compilations([*found.first, *found.later], [self._compile])


async def answer(engine: Engine) -> list[int]:
    async with engine.submit(token_request([5, 17], 9, temperature=0), ANYBODY) as request:
        return [token async for token, *_ in request]


def test_it_answers_while_a_program_is_compiled(
    exact_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and when all are; then step times are measured anew."""
    caplog.set_level(logging.INFO)
    compiling, go_on = threading.Event(), threading.Event()

    def compile_() -> None:
        compiling.set()
        go_on.wait()

    with loaded_model(str(exact_folder), SETTINGS) as (model, programs):
        step_times = StepTimeEstimator()
        engine = Engine(model, LaterPrograms(programs, compile_), SETTINGS, step_times)
        engine.start()
        try:
            compiling.wait()
            assert len(asyncio.run(answer(engine))) == 9
            assert not engine.compiled.is_set()
            assert step_times.step_time(1) > 0
            go_on.set()
            engine.compiled.wait()
            assert step_times.step_time(1) == 0
            assert len(asyncio.run(answer(engine))) == 9
        finally:
            go_on.set()
            engine.close()
    told = [record.message for record in caplog.records if "compil" in record.message]
    assert told[0] == "compiling the other programs while serving"
    assert told[-1].startswith("compiled all")


def test_a_program_that_cannot_be_compiled_ends_it(
    exact_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Running requests end UNAVAILABLE, and it is dead."""
    go_on = threading.Event()

    def compile_() -> None:
        go_on.wait()
        raise MemoryError("for the compiler")

    with loaded_model(str(exact_folder), SETTINGS) as (model, programs):
        later = LaterPrograms(programs, compile_)
        engine = Engine(model, later, SETTINGS)
        engine.start()

        async def test() -> None:
            later.decode_gate.close()
            async with engine.submit(token_request([1], 50), ANYBODY) as request:
                await asyncio.to_thread(later.decode_gate.wait)
                go_on.set()
                await asyncio.wrap_future(engine.died)
                later.decode_gate.open()
                with pytest.raises(RefusedError) as refusal:
                    async for _ in request:
                        pass
            assert refusal.value.code is grpc.StatusCode.UNAVAILABLE

        asyncio.run(test())
        engine.close()
    assert "cannot be compiled" in caplog.text
    assert "for the compiler" not in caplog.text
