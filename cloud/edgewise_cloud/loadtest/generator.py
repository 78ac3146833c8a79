"""The loops that put load on a service."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from edgewise_cloud.loadtest.plan import LoadPlan
from edgewise_cloud.loadtest.record import Outcome, Record
from edgewise_cloud.loadtest.request import ask
from edgewise_cloud.loadtest.service import Service, connected
from edgewise_cloud.loadtest.statistics import Summary, summarise
from edgewise_cloud.loadtest.workload import Job, Prompts

# A stream that failed waits before it asks again: refusals come so fast that asking at once would
# measure little but refusing.
PAUSE = 0.1  # seconds
WARM_UP_TIMEOUT = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A run of a plan, as far as it came. Moments are on time.perf_counter()'s clock."""

    plan: LoadPlan
    model: str
    records: tuple[Record, ...]  # warm-up left out
    started: float
    ended: float
    not_sent: int  # open loop: requests that were due while `streams` others ran
    client_cpu: float  # of one processor, used by this process: near 1, it measured itself

    def summary(self) -> Summary:
        """What it comes to."""
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


async def run_load_test(plan: LoadPlan) -> Measured:
    """Put a plan's load on its target, and say what came of it. Raises LoadTestError."""
    generator = LoadGenerator(plan)
    await generator.run()
    return generator.measured()


class LoadGenerator:
    """One run of a plan; `measured` gives what there is so far, even after a run was cancelled.

    With a duration, what runs at its end is cancelled: its tokens until then count, and so does
    its time to the first of them; its request is unfinished. With a number of requests, all of
    them are waited for.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.model = ""
        self.started: float | None = None  # on time.perf_counter()'s clock; None: not measuring
        self.running: set[Record] = set()
        self.ended: list[Record] = []
        self.not_sent = 0
        self._stopped: float | None = None
        self._cpu = 0.0

    async def run(self) -> None:
        """Connect, warm up, and put the load on. Raises LoadTestError; can be cancelled."""
        async with connected(self.plan) as service:
            prompts = Prompts(self.plan, service.model)
            await self._warm_up(service, prompts)
            self.model = service.model.name
            self._cpu, self.started = time.process_time(), time.perf_counter()
            until = None if self.plan.requests else self.plan.duration
            try:
                with suppress(TimeoutError):
                    async with asyncio.timeout(until):
                        await self._loop(service, prompts)
            finally:
                stopped = time.perf_counter()
                self._cpu = time.process_time() - self._cpu
                self._stopped = min(stopped, self.started + until) if until else stopped

    def measured(self) -> Measured:
        """What was measured until now; nothing before the warm-up has ended."""
        now = time.perf_counter()
        started, ended = self.started or now, self._stopped or now
        return Measured(
            plan=self.plan,
            model=self.model,
            records=(*self.ended, *self.running) if self.started else (),
            started=started,
            ended=ended,
            not_sent=self.not_sent,
            client_cpu=self._cpu / (ended - started) if self._stopped else 0.0,
        )

    def recent(self, seconds: float) -> Summary:
        """The last seconds, at a cost that does not grow with the run."""
        now = time.perf_counter()
        start = max(self.started or now, now - seconds)
        ended = itertools.takewhile(lambda r: (r.ended or now) >= start, reversed(self.ended))
        return summarise((*ended, *self.running), start, now)

    async def _warm_up(self, service: Service, prompts: Prompts) -> None:
        count = self.plan.streams if self.plan.warm_up is None else self.plan.warm_up
        numbers = iter(range(count))
        with suppress(TimeoutError):  # then what is to be seen will be seen in the measuring
            async with asyncio.timeout(WARM_UP_TIMEOUT):
                await self._closed(service, prompts.warm_up_job, numbers)
        self.ended.clear()
        self.running.clear()

    async def _loop(self, service: Service, prompts: Prompts) -> None:
        numbers = itertools.count() if self.plan.requests is None else range(self.plan.requests)
        if self.plan.rate is None:
            await self._closed(service, prompts.job, iter(numbers))
        else:
            await self._open(service, prompts.job, iter(numbers), self.plan.rate)

    async def _closed(
        self, service: Service, make: Callable[[int], Job], numbers: Iterator[int]
    ) -> None:
        async def stream(index: int) -> None:
            for number in numbers:  # the streams share it
                job = make(number)
                record = self._begin(job, index, time.perf_counter())
                await self._ask(service, job, record)
                if record.outcome is Outcome.FAILED:
                    await asyncio.sleep(PAUSE)

        async with asyncio.TaskGroup() as group:
            for index in range(self.plan.streams):
                group.create_task(stream(index))

    async def _open(
        self, service: Service, make: Callable[[int], Job], numbers: Iterator[int], rate: float
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
                    job = make(number)
                    record = self._begin(job, number, due)
                    group.create_task(self._ask(service, job, record))

    def _begin(self, job: Job, stream: int, due: float) -> Record:
        record = Record(
            number=job.number,
            stream=stream,
            prompt_tokens=job.message.prompt_tokens,
            max_tokens=job.message.max_tokens,
            due=due,
            sent=due,
        )
        self.running.add(record)
        return record

    async def _ask(self, service: Service, job: Job, record: Record) -> None:
        await ask(service, job, record, self.plan.deadline)
        # Not when cancelled: a record that is still in `running` then stays unfinished.
        self.running.discard(record)
        self.ended.append(record)
