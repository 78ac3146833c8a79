"""One model for many requests: admission, the queue, and the thread that steps the batch."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, InvalidStateError
from contextlib import asynccontextmanager, suppress

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.serving.engine import refusals
from edgewise_cloud.serving.engine.admission import admit
from edgewise_cloud.serving.engine.batch import Batch, StepOutput
from edgewise_cloud.serving.engine.fair_share import in_fair_order
from edgewise_cloud.serving.engine.request import EngineLoad, EngineRequest, Event, ServedModel
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import StepTimeEstimator
from edgewise_cloud.serving.model.interface import Compilations, Programs
from edgewise_cloud.serving.model.warm_up import compile_later
from edgewise_cloud.serving.redact import redacted_traceback
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.request import TokenRequest

log = logging.getLogger("edgewise_cloud.serving.engine")

STOP_TIMEOUT = 5.0  # seconds for the current step, of milliseconds or some tenths, to end


class Engine:
    """Admits requests on an event loop; a thread of its own steps the batch.

    A step that fails ends the requests in it. An engine that cannot go on is dead: it ends all its
    requests UNAVAILABLE, refuses new ones, and completes `died`.
    """

    def __init__(
        self,
        model: ServedModel,
        programs: Programs,
        settings: EngineSettings,
        step_times: StepTimeEstimator | None = None,
    ) -> None:
        """Take programs with as many slots as the settings say."""
        self.model = model
        self._settings = settings
        self._batch = Batch(programs)
        self._step_times = step_times or StepTimeEstimator()
        self._waiting: list[EngineRequest] = []
        self._running: list[EngineRequest] = []
        self._work = threading.Condition()  # guards both lists and the step times; wakes the thread
        self._events: list[tuple[EngineRequest, Event]] = []  # of the last step, not yet delivered
        self._closed = False
        self.died: Future[None] = Future()
        self.compiled = threading.Event()  # set once no request uses a larger program than it needs
        self._loop: asyncio.AbstractEventLoop | None = None  # of the callers
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self, progress: Progress = SILENT) -> None:
        """Compile what every request needs, and start the threads: one compiles the rest."""
        compilations = self._batch.compile(progress)
        for size, seconds in self._batch.step_times(progress):
            self._step_times.record_step(size, seconds)
        self._thread.start()
        if not compilations.later:
            self.compiled.set()
            return
        # Python's end waits for it: a compiler must not lose its memory while it runs.
        compiler = threading.Thread(target=self._compile, args=(compilations,), name="compiler")
        compiler.start()

    def close(self) -> None:
        """Stop after the current step. Requests that have not finished end UNAVAILABLE.

        An engine whose step does not end in five seconds is dead.
        """
        with self._work:
            self._closed = True
            self._work.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT)
        self._end_all(refusals.shutting_down())
        if self._thread.is_alive():
            log.critical("a step of the model does not end")
            self._mark_dead()

    def current_load(self) -> EngineLoad:
        """How busy it is."""
        with self._work:
            return EngineLoad(
                slots=self._settings.slots,
                running=len(self._running),
                queue=self._settings.queue,
                waiting=len(self._waiting),
                tokens_per_second=self._step_times.tokens_per_second(time.monotonic()),
                expected_wait=self._expected_wait(),
            )

    def _expected_wait(self) -> float:
        running, waiting = (
            [each.steps for each in some] for some in (self._running, self._waiting)
        )
        return self._step_times.wait(self._settings.slots, running, waiting).new_request

    @asynccontextmanager
    async def submit(self, request: TokenRequest, caller: Caller) -> AsyncIterator[EngineRequest]:
        """Generate or score for a checked request; leaving the context stops it. Raises RefusedError."""
        self._loop = asyncio.get_running_loop()
        submitted = EngineRequest(request, caller)
        with self._work:
            self._admit(submitted)
            self._work.notify()
        try:
            yield submitted
        finally:
            with self._work:
                submitted.abandoned = True
                if submitted in self._waiting:
                    self._waiting.remove(submitted)

    def _admit(self, request: EngineRequest) -> None:
        if self.died.done():
            raise refusals.died()
        if self._closed:
            raise refusals.shutting_down()
        refused = admit(request, self._running, self._waiting, self._settings, self._step_times)
        self._drop([other for other, _ in refused])
        self._deliver(list(refused))
        self._waiting.append(request)

    def _run(self) -> None:
        """The thread: one step after the other while there is work, until the engine ends or dies."""
        try:
            self._step_while_open()
        except BaseException as error:  # noqa: BLE001  # its callers must not wait for ever
            try:
                log.critical("the engine died\n%s", redacted_traceback(error))
            finally:
                self._mark_dead()
                self._end_all(refusals.died())

    def _compile(self, compilations: Compilations) -> None:
        """The other thread. A failure ends the engine: it would be slow for ever."""
        try:
            if not compile_later(compilations, lambda: self._closed):
                return
        except BaseException as error:  # noqa: BLE001
            log.critical("a program cannot be compiled\n%s", redacted_traceback(error))
            with self._work:
                self._closed = True
                self._work.notify()
            self._mark_dead()
            self._end_all(refusals.died())
            return
        with self._work:
            self._step_times.clear_steps()  # those were of larger programs, beside a compiler
        self.compiled.set()

    def _step_while_open(self) -> None:
        while self._wait_for_work():
            try:
                self._schedule()
                self._deliver_events()
                self._step()
            except Exception as error:  # noqa: BLE001
                # Callers must not wait for ever, and the next request may succeed.
                log.error("a step of the model failed\n%s", redacted_traceback(error))  # noqa: TRY400
                self._fail()

    def _wait_for_work(self) -> bool:
        with self._work:
            if not (self._running or self._waiting):
                self._deliver_events()
            self._work.wait_for(lambda: self._closed or self._running or self._waiting)
            return not self._closed

    def _schedule(self) -> None:
        """Free the slots of abandoned and late requests, and start waiting ones in free slots."""
        now = time.monotonic()
        with self._work:
            late = [request for request in self._waiting if request.caller.is_late(now)]
            over = [each for each in self._running if each.abandoned or each.caller.is_late(now)]
            self._drop([*late, *over])
        for request in over:
            if request.sequence:
                self._batch.remove(request.sequence)
        self._deliver_events()
        self._deliver([(request, refusals.too_late()) for request in [*late, *over]])
        with self._work:
            started = self._next(self._batch.free_slots)
            self._waiting = [each for each in self._waiting if each not in started]
            self._running += started
        for request in started:
            request.sequence = self._batch.add(request.request)
            request.started_at, request.cached_tokens = now, request.sequence.cached

    def _next(self, free: int) -> list[EngineRequest]:
        return in_fair_order(self._waiting, self._running)[:free] if free and self._waiting else []

    def _step(self) -> None:
        if not self._batch.sequences:
            return
        started = time.monotonic()
        outputs = self._batch.step()
        ended = time.monotonic()
        with self._work:
            self._step_times.record_step(len(self._running), ended - started)
            generated = sum(output.token is not None for output in outputs)
            self._step_times.record_tokens(ended, generated)
        by_sequence = {id(request.sequence): request for request in self._running}
        # A step that outlasted `close` finds its requests gone.
        found = [
            (by_sequence[key], output)
            for output in outputs
            if (key := id(output.sequence)) in by_sequence
        ]
        with self._work:
            self._drop([request for request, output in found if output.last])
        self._events = [
            (request, event) for request, output in found for event in _events(output, ended)
        ]

    def _deliver_events(self) -> None:
        """Deliver the events of the last step.

        Just before the next one begins: while it computes, nothing else needs Python's lock, and
        the event loop sends the tokens without delaying the step.
        """
        with self._work:  # a compiler that fails ends the requests from its own thread
            events, self._events = self._events, []
        self._deliver(events)

    def _fail(self) -> None:
        self._deliver_events()
        self._batch.clear()
        with self._work:
            failed = self._running
            self._running = []
        self._deliver([(request, refusals.failed()) for request in failed])

    def _mark_dead(self) -> None:
        with suppress(InvalidStateError):  # it is already
            self.died.set_result(None)

    def _end_all(self, refusal: RefusedError) -> None:
        """End all requests, after their last tokens, with `refusal`."""
        self._deliver_events()
        with self._work:
            unfinished = [*self._running, *self._waiting]
            self._drop(unfinished)
        self._deliver([(request, refusal) for request in unfinished])

    def _drop(self, requests: list[EngineRequest]) -> None:
        self._running = [each for each in self._running if each not in requests]
        self._waiting = [each for each in self._waiting if each not in requests]

    def _deliver(self, events: list[tuple[EngineRequest, Event]]) -> None:
        """Put events, in one call to the event loop."""

        def put() -> None:
            for request, event in events:
                request.put(event)

        if events and self._loop:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(put)


def _events(output: StepOutput, moment: float) -> list[Event]:
    if output.failed:
        return [refusals.failed()]
    return [(output.token, moment, output.scores), *([None] if output.last else [])]
