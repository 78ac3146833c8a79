"""The load generator: a closed or an open loop of requests."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_cloud.loadtest.record import Outcome, RequestRecord
from edgewise_cloud.loadtest.request import send_request
from edgewise_cloud.loadtest.service import Service, connect
from edgewise_cloud.loadtest.statistics import Summary, summarise
from edgewise_cloud.loadtest.workload import PlannedRequest, Workload

# A stream waits after a failure: refusals return so fast that without a pause the test would
# measure little else.
FAILURE_PAUSE = 0.1  # seconds
WARM_UP_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTestResult:
    """The records of a load test, or of a part of one. Times are time.perf_counter()'s."""

    plan: LoadPlan
    model: str
    records: tuple[RequestRecord, ...]  # without the warm-up's
    started: float
    ended: float
    not_sent: int  # open loop: requests that were due while `streams` others ran
    client_cpu: float  # processors used by this process: near 1, it measures itself

    def summary(self) -> Summary:
        """The figures of the whole test."""
        return summarise(self.records, self.started, self.ended)

    def as_dict(self) -> dict[str, object]:
        """Plan and summary, for JSON."""
        return {
            "target": self.plan.target,
            "model": self.model,
            "loop": self.plan.loop,
            "streams": self.plan.streams,
            "rate": self.plan.rate,
            **self.summary().as_dict(),
            "not_sent": self.not_sent,
            "client_cpu": self.client_cpu,
        }


async def run_load_test(plan: LoadPlan) -> LoadTestResult:
    """Run a load test. Raises LoadTestError."""
    generator = LoadGenerator(plan)
    await generator.run()
    return generator.result()


class LoadGenerator:
    """One run of a plan; `result` returns what was measured so far, also after a cancelled run.

    With a duration, requests that run at its end are cancelled: they count as unfinished, and their
    tokens and time to first token until then are included. With a number of requests, the run ends
    when all of them have ended.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.model = ""
        self.started: float | None = None  # time.perf_counter(); None during the warm-up
        self.running: set[RequestRecord] = set()
        self.ended: list[RequestRecord] = []
        self.not_sent = 0
        self._stopped: float | None = None
        self._cpu = 0.0

    async def run(self) -> None:
        """Connect, warm up, and send the plan's requests. Raises LoadTestError; cancellable."""
        async with connect(self.plan) as service:
            workload = Workload(self.plan, service.model)
            await self._warm_up(service, workload)
            self.model = service.model.name
            self._cpu, self.started = time.process_time(), time.perf_counter()
            until = None if self.plan.requests else self.plan.duration
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(until):
                        await self._loop(service, workload)
            finally:
                stopped = time.perf_counter()
                self._cpu = time.process_time() - self._cpu
                self._stopped = min(stopped, self.started + until) if until else stopped

    def result(self) -> LoadTestResult:
        """What was measured so far; no records before the warm-up has ended."""
        now = time.perf_counter()
        started, ended = self.started or now, self._stopped or now
        return LoadTestResult(
            plan=self.plan,
            model=self.model,
            records=(*self.ended, *self.running) if self.started else (),
            started=started,
            ended=ended,
            not_sent=self.not_sent,
            client_cpu=self._cpu / (ended - started) if self._stopped else 0.0,
        )

    def recent(self, seconds: float) -> Summary:
        """Figures of the last `seconds`, at a cost that does not grow with the run."""
        now = time.perf_counter()
        start = max(self.started or now, now - seconds)
        ended = itertools.takewhile(lambda r: (r.ended or now) >= start, reversed(self.ended))
        return summarise((*ended, *self.running), start, now)

    async def _warm_up(self, service: Service, workload: Workload) -> None:
        count = self.plan.streams if self.plan.warm_up is None else self.plan.warm_up
        numbers = iter(range(count))
        with suppress(TimeoutError):  # the measurement will show what is wrong
            async with asyncio.timeout(WARM_UP_TIMEOUT):
                await self._closed_loop(service, workload.warm_up_request, numbers)
        self.ended.clear()
        self.running.clear()

    async def _loop(self, service: Service, workload: Workload) -> None:
        numbers = itertools.count() if self.plan.requests is None else range(self.plan.requests)
        if self.plan.rate is None:
            await self._closed_loop(service, workload.request, iter(numbers))
        else:
            await self._open_loop(service, workload.request, iter(numbers), self.plan.rate)

    async def _closed_loop(
        self, service: Service, make: Callable[[int], PlannedRequest], numbers: Iterator[int]
    ) -> None:
        async def stream(index: int) -> None:
            for number in numbers:  # all streams share the iterator
                request = make(number)
                record = self._start(request, index, time.perf_counter())
                await self._send(service, request, record)
                if record.outcome is Outcome.FAILED:
                    await asyncio.sleep(FAILURE_PAUSE)

        async with asyncio.TaskGroup() as group:
            for index in range(self.plan.streams):
                group.create_task(stream(index))

    async def _open_loop(
        self,
        service: Service,
        make: Callable[[int], PlannedRequest],
        numbers: Iterator[int],
        rate: float,
    ) -> None:
        random = np.random.default_rng((self.plan.seed, 3))
        due = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in numbers:
                due += random.exponential(1 / rate)
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                if len(self.running) >= self.plan.streams:
                    self.not_sent += 1
                else:
                    request = make(number)
                    record = self._start(request, number, due)
                    group.create_task(self._send(service, request, record))

    def _start(self, request: PlannedRequest, stream: int, due: float) -> RequestRecord:
        record = RequestRecord(
            number=request.number,
            stream=stream,
            prompt_tokens=request.message.prompt_tokens,
            max_tokens=request.message.max_tokens,
            due=due,
            sent=due,
        )
        self.running.add(record)
        return record

    async def _send(self, service: Service, request: PlannedRequest, record: RequestRecord) -> None:
        await send_request(service, request, record, self.plan.deadline)
        # Not when cancelled: a record that is still in `running` then stays unfinished.
        self.running.discard(record)
        self.ended.append(record)
