"""A day on which one strategy answers all requests."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from edgewise.policy.types import Limits, Source

from .clock import Clock, Process
from .outcome import Outcome
from .phone import Phone
from .service import Service
from .world import Asked, Wait, World

LIMITS = Limits()


class Run(Protocol):
    """One text being written by one side."""

    def go_on(self) -> Wait:
        """What comes next, from now."""


class Day:
    """One phone, its cloud, and virtual time."""

    def __init__(self, world: World) -> None:
        self.clock = Clock()
        self.phone = Phone(world, self.clock)
        self.service = Service(world, self.clock, self.phone.radio)

    @contextmanager
    def writing(self, source: Source, outcome: Outcome) -> Iterator[Run]:
        """Have a side go on with a text."""
        outcome.sent_to(source)
        side = self.phone if source is Source.ON_DEVICE else self.service
        run: AbstractContextManager[Run] = side.writing(outcome.asked, outcome.position)
        with run as begun:
            yield begun

    def took(self, source: Source, outcome: Outcome) -> None:
        """Note a token."""
        outcome.took(source, self.clock())
        if source is Source.ON_DEVICE and not outcome.asked.private and self._to_be_spared:
            outcome.unspared += 1

    @property
    def _to_be_spared(self) -> bool:
        return self.phone.charge < LIMITS.min_battery and not self.phone.charging


# Answers requests on a day; may keep what it learns from one to the next.
Strategy = Callable[[Outcome], Process]


def lived(
    world: World, requests: Sequence[Asked], strategy: Callable[[Day], Strategy]
) -> tuple[Day, list[Outcome]]:
    """What came of the requests."""
    day = Day(world)
    answer = strategy(day)
    outcomes = [Outcome(asked) for asked in requests]
    for outcome in outcomes:
        day.clock.start(answer(outcome), at=outcome.asked.at)
    day.clock.run()
    return day, outcomes
