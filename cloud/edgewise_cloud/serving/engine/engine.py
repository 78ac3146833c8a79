"""One Keras GPT-2 for many requests: who may come in, who waits, and the thread that steps."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
from numpy.typing import NDArray

from edgewise_cloud.serving.engine.batch import Batch, Made
from edgewise_cloud.serving.engine.request import Item, Load, Run, ServedModel
from edgewise_cloud.serving.engine.settings import EngineSettings
from edgewise_cloud.serving.engine.step_time import Pace, Waits
from edgewise_cloud.serving.redact import frames
from edgewise_cloud.serving.types import Caller, RefusedError
from edgewise_edge.decoding.generate import TokenRequest

log = logging.getLogger("edgewise_cloud.serving.engine")

_LEAST_RETRY = 0.1  # seconds


class Engine:
    """Admits requests on an event loop; a thread of its own steps the batch."""

    def __init__(
        self, model: ServedModel, weights: Mapping[str, NDArray[Any]], settings: EngineSettings
    ) -> None:
        self.model = model
        self._settings = settings
        self._batch = Batch(weights, model.architecture, settings.slots, settings.dtype)
        self._pace = Pace()
        self._waiting: list[Run] = []
        self._running: list[Run] = []
        self._wanted = threading.Condition()  # guards lists and pace, and wakes the thread
        self._made: list[tuple[Run, Item]] = []  # by the last step, not delivered yet
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None  # of those who ask
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    def start(self) -> None:
        """Compile what will run, and begin to serve."""
        for texts, seconds in self._batch.warm_up():
            self._pace.stepped(texts, seconds)
        self._thread.start()

    def close(self) -> None:
        """Stop after the step in hand. What has not ended by then ends UNAVAILABLE."""
        with self._wanted:
            self._closed = True
            self._wanted.notify()
        if self._thread.is_alive():
            self._thread.join()
        self._hand_over()
        with self._wanted:
            cut = [*self._running, *self._waiting]
            self._forget(cut)
        self._deliver([(run, _shutting_down()) for run in cut])

    def load(self) -> Load:
        """How busy it is."""
        with self._wanted:
            return Load(
                slots=self._settings.slots,
                running=len(self._running),
                queue=self._settings.queue,
                waiting=len(self._waiting),
                tokens_per_second=self._pace.tokens_per_second(time.monotonic()),
                expected_wait=self._waits().new,
            )

    @asynccontextmanager
    async def run(self, request: TokenRequest, caller: Caller) -> AsyncIterator[Run]:
        """Answer a checked request; leaving ends the work. Raises RefusedError, at once."""
        self._loop = asyncio.get_running_loop()
        run = Run(request, caller)
        with self._wanted:
            self._admit(run)
            self._waiting.append(run)
            self._wanted.notify()
        try:
            yield run
        finally:
            with self._wanted:
                run.left = True
                if run in self._waiting:
                    self._waiting.remove(run)

    def _admit(self, run: Run) -> None:
        """Refuse now what could only be refused later."""
        settings, present = self._settings, [*self._running, *self._waiting]
        if self._closed:
            raise _shutting_down()
        if len(present) >= settings.slots + settings.queue:
            raise self._exhausted("every slot is taken and the queue is full")
        of_caller = sum(other.caller.name == run.caller.name for other in present)
        if settings.per_caller is not None and of_caller >= settings.per_caller:
            raise self._exhausted(f"this caller has {of_caller} requests here already, its share")
        self._require_time(run)

    def _exhausted(self, text: str) -> RefusedError:
        after = max(_LEAST_RETRY, self._waits().first_free)
        return RefusedError(grpc.StatusCode.RESOURCE_EXHAUSTED, text, retry_after=after)

    def _require_time(self, run: Run) -> None:
        if run.caller.deadline is None:
            return
        step = self._pace.step(min(len(self._running) + 1, self._settings.slots))
        least = self._waits(lambda other: other.least_steps).new + run.least_steps * step
        left = run.caller.deadline - time.monotonic()
        if least > left:
            raise RefusedError(
                grpc.StatusCode.DEADLINE_EXCEEDED,
                f"this would take {least:.1f} s now, and the deadline is in {max(0, left):.1f} s",
            )

    def _waits(self, steps: Callable[[Run], int] = lambda run: run.steps) -> Waits:
        running, waiting = ([steps(run) for run in runs] for runs in (self._running, self._waiting))
        return self._pace.waits(self._settings.slots, running, waiting)

    def _work(self) -> None:
        """The thread: as long as there is work, one step after the other."""
        while self._wait_for_work():
            try:
                self._end_and_begin()
                self._hand_over()
                self._step()
            except Exception as error:  # noqa: BLE001
                # Whoever waits must not wait for ever, and the next request may fare better.
                log.error("a step of the model failed\n%s", frames(error))  # noqa: TRY400
                self._fail()

    def _wait_for_work(self) -> bool:
        with self._wanted:
            if not (self._running or self._waiting):
                self._hand_over()
            self._wanted.wait_for(lambda: self._closed or self._running or self._waiting)
            return not self._closed

    def _end_and_begin(self) -> None:
        """Free the slots of those that are gone or late; give free ones to those that wait."""
        now = time.monotonic()
        with self._wanted:
            late = [run for run in self._waiting if run.caller.late(now)]
            over = [run for run in self._running if run.left or run.caller.late(now)]
            self._forget([*late, *over])
        for run in over:
            if run.text:
                self._batch.remove(run.text)
        self._hand_over()
        self._deliver([(run, _too_late()) for run in [*late, *over]])
        with self._wanted:
            begun = self._waiting[: self._batch.free]
            self._waiting = self._waiting[len(begun) :]
            self._running += begun
        for run in begun:
            run.text = self._batch.add(run.request)
            run.started, run.reused = now, run.text.reused

    def _step(self) -> None:
        if not self._batch.texts:
            return
        started = time.monotonic()
        made = self._batch.step()
        ended = time.monotonic()
        with self._wanted:
            self._pace.stepped(len(self._running), ended - started)
            self._pace.made(ended, len(made))
        runs = {id(run.text): run for run in self._running}
        items = list[tuple[Run, Item]]()
        for one in made:
            run = runs[id(one.text)]
            items += [(run, item) for item in _items(one, ended)]
        with self._wanted:
            self._forget([runs[id(one.text)] for one in made if one.last])
        self._made = items

    def _hand_over(self) -> None:
        """Deliver what the last step made.

        Just before the next begins: while that computes, nobody else wants Python's lock, and the
        event loop sends the tokens without holding the step up.
        """
        made, self._made = self._made, []
        self._deliver(made)

    def _fail(self) -> None:
        self._hand_over()
        self._batch.clear()
        with self._wanted:
            failed = self._running
            self._running = []
        self._deliver([(run, _failed()) for run in failed])

    def _forget(self, runs: list["Run"]) -> None:
        self._running = [run for run in self._running if run not in runs]
        self._waiting = [run for run in self._waiting if run not in runs]

    def _deliver(self, items: list[tuple["Run", "Item"]]) -> None:
        """Hand over what a step made, in one call to the event loop."""

        def put() -> None:
            for run, item in items:
                run.put(item)

        if items and self._loop:
            with suppress(RuntimeError):  # a loop that is closed: nobody waits there
                self._loop.call_soon_threadsafe(put)


def _items(made: Made, moment: float) -> list[Item]:
    if made.token is None:
        return [_failed()]
    return [(made.token, moment), *([None] if made.last else [])]


def _failed() -> RefusedError:
    return RefusedError(grpc.StatusCode.INTERNAL, "the model failed; see the service's log")


def _shutting_down() -> RefusedError:
    return RefusedError(grpc.StatusCode.UNAVAILABLE, "the service is shutting down")


def _too_late() -> RefusedError:
    return RefusedError(grpc.StatusCode.DEADLINE_EXCEEDED, "the deadline has passed")
