"""A day of requests on one device with one cloud, all routed by one policy; the simple policies.

The simple ones ignore privacy, have the same timeouts as the router, and do not retry.
"""

import math
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from edgewise import Limits, Source, Veto

from .cloud import Cloud, CloudRun
from .device import Device, DeviceRun
from .world import Clock, Process, Request, World

LIMITS = Limits()
Run = DeviceRun | CloudRun


@dataclass(slots=True)
class Outcome:
    """A request and its answer so far. Times in seconds since it was made."""

    request: Request
    tokens: int = 0  # that the reader has
    first_token: float | None = None
    total: float | None = None  # None: the answer was lost
    computed: Counter[Source] = field(default_factory=Counter)  # tokens, lost ones included
    low_battery_tokens: int = 0  # public ones that a phone below its battery floor computed
    fallbacks: int = 0  # the other source took over before the first token
    handoffs: int = 0  # the other source took over after it
    leaked: bool = False  # it was private, and went to the cloud
    abandoned: dict[Source, Veto] = field(default_factory=dict)  # sources that stopped, and why

    @property
    def position(self) -> int:
        return self.request.prompt_tokens + self.tokens

    @property
    def complete(self) -> bool:
        return self.tokens >= self.request.answer_tokens

    @property
    def met(self) -> bool:
        """Whether it met its budgets; a lost answer meets none."""
        if self.total is None or self.first_token is None:
            return False
        asked, unlimited = self.request, math.inf
        first_in_time = self.first_token <= (asked.first_token_budget or unlimited)
        return first_in_time and self.total <= (asked.latency_budget or unlimited)


class Simulation:
    """One device, its cloud, and virtual time."""

    def __init__(self, world: World) -> None:
        self.clock = Clock()
        self.device = Device(world, self.clock)
        self.cloud = Cloud(world, self.clock, self.device.radio)

    @contextmanager
    def attempt(self, source: Source, outcome: Outcome) -> Iterator[Run]:
        """Have a source continue an answer."""
        if source is Source.IN_CLOUD:
            outcome.leaked |= outcome.request.private
            yield CloudRun(self.cloud, outcome.request, outcome.position)
            return
        self.device.running += 1
        try:
            yield DeviceRun(self.device, outcome.request, outcome.position)
        finally:
            self.device.running -= 1

    def arrived(self, source: Source, outcome: Outcome) -> None:
        outcome.tokens += 1
        outcome.computed[source] += 1
        elapsed = self.clock() - outcome.request.at
        if outcome.first_token is None:
            outcome.first_token = elapsed
        if outcome.complete:
            outcome.total = elapsed
        if source is Source.ON_DEVICE and not outcome.request.private:
            low = self.device.charge < LIMITS.min_battery and not self.device.charging
            outcome.low_battery_tokens += low


# A policy answers requests; it may keep what it learns from one to the next.
Answer = Callable[[Outcome], Process]
Policy = Callable[[Simulation], Answer]


def simulate(
    world: World, requests: Sequence[Request], policy: Policy
) -> tuple[Simulation, list[Outcome]]:
    simulation = Simulation(world)
    answer = policy(simulation)
    outcomes = [Outcome(request) for request in requests]
    for outcome in outcomes:
        simulation.clock.start(answer(outcome), at=outcome.request.at)
    simulation.clock.run()
    return simulation, outcomes


def always_device(simulation: Simulation) -> Answer:
    return lambda outcome: _generated(simulation, Source.ON_DEVICE, outcome)


def always_cloud(simulation: Simulation) -> Answer:
    return lambda outcome: _generated(simulation, Source.IN_CLOUD, outcome)


def availability_only(simulation: Simulation) -> Answer:
    """On the device if the model is there (here it always is); where that fails, in the cloud.

    This is how Firebase AI Logic prefers the device. It knows no budget, battery, memory or
    prediction; the cloud starts the answer again, as only the prompt is sent.
    """

    def answer(outcome: Outcome) -> Process:
        if not (yield from _generated(simulation, Source.ON_DEVICE, outcome)):
            outcome.fallbacks += 1
            outcome.tokens = 0
            yield from _generated(simulation, Source.IN_CLOUD, outcome)

    return answer


def _generated(
    simulation: Simulation, source: Source, outcome: Outcome
) -> Generator[float, None, bool]:
    """Whether the source completed the answer."""
    with simulation.attempt(source, outcome) as run:
        while not outcome.complete:
            step = run.step()
            yield step.seconds
            if step.failure:
                return False
            if step.token:
                simulation.arrived(source, outcome)
    return True
