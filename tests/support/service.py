"""A real cloud service on a real socket, for tests.

Starting TensorFlow and compiling take seconds, so a model's compiled programs are kept for the next
service of this process with the same model, slots and precision.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from edgewise_cloud.serving.engine.load_engine import load_model
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import StepTimeEstimator
from edgewise_cloud.serving.server.server import Server, ServerSettings
from edgewise_cloud.serving.types import RequestOutcome
from tests.support.gated_programs import Gate, GatedPrograms
from tests.support.generate_requests import until

if TYPE_CHECKING:  # they import TensorFlow, which tests without a model can do without
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import ServedModel
    from edgewise_cloud.serving.model.interface import Programs

    Loaded = tuple[ServedModel, Programs]

_unused: "dict[tuple[str, int, str], list[Loaded]]" = {}
_lock = threading.Lock()


@contextmanager
def loaded_model(source: str, settings: EngineSettings) -> "Iterator[Loaded]":
    """A model with its caches empty, compiled already if it was used before."""
    with _lock:
        unused = _unused.setdefault((source, settings.slots, settings.dtype), [])
        loaded = unused.pop() if unused else None
    model, programs = loaded or load_model(source, settings)
    programs.reset()
    yield model, programs
    with _lock:
        unused.append((model, programs))


@dataclass
class RunningEngine:
    """An engine, and what tests do to it."""

    engine: "Engine"
    programs: GatedPrograms
    step_times: StepTimeEstimator

    @property
    def held(self) -> int:
        """Requests that run or wait."""
        load = self.engine.current_load()
        return load.running + load.waiting

    def start_waiting(self, running: int) -> None:
        """Let single steps pass the closed gate until this many requests run."""
        gate = self.programs.decode_gate
        gate.wait()
        while self.engine.current_load().running < running:  # requests start between steps
            gate.let_pass(1)
            gate.wait()

    @contextmanager
    def gated(self) -> Iterator[Gate]:
        """The gate of its decode steps; the engine is idle before and after, and expects no times."""
        until(lambda: not self.held)
        self.step_times.clear()
        try:
            yield self.programs.decode_gate
        finally:
            self.programs.behave()
            until(lambda: not self.held)
            self.step_times.clear()


@contextmanager
def running_engine(source: str, settings: EngineSettings) -> Iterator[RunningEngine]:
    """An engine that runs until the block ends."""
    with loaded_model(source, settings) as (model, programs):
        from edgewise_cloud.serving.engine.engine import Engine

        gated, step_times = GatedPrograms(programs), StepTimeEstimator()
        engine = Engine(model, gated, settings, step_times)
        engine.start()
        engine.compiled.wait()  # or it would forget what tests record as step times
        try:
            yield RunningEngine(engine, gated, step_times)
        finally:
            gated.behave()
            engine.close()


@dataclass
class Outcomes:
    """An observer that keeps the outcomes of requests."""

    ended: list[RequestOutcome] = field(default_factory=list)

    def token_sent(self, gap: float | None) -> None:
        """Ignore it."""

    def request_ended(self, outcome: RequestOutcome) -> None:
        """Keep it."""
        self.ended.append(outcome)


@dataclass
class Running:
    """A server in a thread of its own; `stop` drains it."""

    server: Server
    address: str
    outcomes: list[RequestOutcome]  # of all requests, as they end
    on_engine: RunningEngine | None  # of the first model; None: it is not loaded
    _loop: asyncio.AbstractEventLoop
    _thread: threading.Thread
    _stopped: bool = field(default=False)

    @property
    def programs(self) -> GatedPrograms:
        """The model's programs."""
        return self.on_engine.programs

    @property
    def held(self) -> int:
        """Requests that run or wait."""
        return self.on_engine.held

    def stop(self) -> None:
        """Drain and end it; a second call does nothing."""
        if not self._stopped:
            self._stopped = True
            asyncio.run_coroutine_threadsafe(self._drain(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    async def _drain(self) -> None:
        await self.server.drain()
        # What asyncio.run does at its end.
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


@contextmanager
def serving(*models: str, load: bool = True, **settings: Any) -> Iterator[Running]:
    """Serve `models` on a free port until the block ends; without `load` it stays NOT_SERVING.

    Settings are those of the server or of its engine, which has two slots: each batch size is
    compiled, and services of the same size share what was compiled.
    """
    ours = {part.name for part in fields(EngineSettings)} & settings.keys()
    engine = EngineSettings(**{"slots": 2, **{name: settings.pop(name) for name in ours}})
    given = {"models": models, "port": 0, "grace": 1.0, "engine": engine, **settings}
    with ExitStack() as stack:
        engines = {
            model: stack.enter_context(running_engine(model, engine)) for model in models if load
        }
        on_engine = engines[models[0]] if load else None
        loop = asyncio.new_event_loop()
        stack.callback(loop.close)
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        stack.callback(thread.join)
        outcomes = Outcomes()

        async def start() -> tuple[Server, int]:
            server = Server(
                ServerSettings(**given),
                load_engine=lambda model, *_: engines[model].engine,
                observers=[outcomes],
            )
            port = await server.start()
            if load:
                await server.load_models()
            return server, port

        try:
            server, port = asyncio.run_coroutine_threadsafe(start(), loop).result()
        except BaseException:
            loop.call_soon_threadsafe(loop.stop)
            raise
        running = Running(server, f"127.0.0.1:{port}", outcomes.ended, on_engine, loop, thread)
        stack.callback(running.stop)
        for each in engines.values():
            stack.callback(each.programs.behave)
        yield running
