"""Virtual time; what happens to a device, its network and its cloud; and the requests."""

import heapq
from bisect import bisect_right
from collections.abc import Generator, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import count
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Yields the seconds that it waits.
Process = Generator[float, None, Any]


class Clock:
    """Runs processes in virtual time, each until it waits; a call gives the time in seconds."""

    def __init__(self) -> None:
        self._now = 0.0
        self._due: list[tuple[float, int, Process]] = []
        self._order = count()  # what is due at the same time runs in the order it was started

    def __call__(self) -> float:
        return self._now

    def start(self, process: Process, at: float | None = None) -> None:
        due = self._now if at is None else at
        heapq.heappush(self._due, (due, next(self._order), process))

    def run(self) -> None:
        while self._due:
            self._now, _, process = heapq.heappop(self._due)
            try:
                wait = next(process)
            except StopIteration:
                continue
            self.start(process, self._now + wait)


class Steps(Generic[T]):
    """A value that changes at some times, in seconds; the first one holds from the beginning."""

    def __init__(self, first: T, changes: Iterable[tuple[float, T]] = ()) -> None:
        later = sorted(changes, key=lambda change: change[0])
        self._times = [time for time, _ in later]
        self._values = [first, *(value for _, value in later)]

    def at(self, time: float) -> T:
        return self._values[bisect_right(self._times, time)]

    def next_change(self, time: float) -> float | None:
        index = bisect_right(self._times, time)
        return self._times[index] if index < len(self._times) else None


class Memory(Enum):
    """How much memory the device has left."""

    PLENTY = auto()
    SCARCE = auto()  # pages are read again and again: all is slower
    NONE = auto()  # the system kills what runs


class Health(Enum):
    """The state of the cloud."""

    UP = auto()
    REFUSES = auto()  # connections are refused, and streams cut, at once
    HANGS = auto()  # nothing arrives, not even an error


@dataclass(frozen=True, slots=True)
class Link:
    """The network to the cloud."""

    round_trip: float = 0.06  # seconds
    bandwidth: float = 5e6  # bits a second


@dataclass(frozen=True, slots=True)
class Load:
    """What other users cost: seconds in the cloud's queue, and between two tokens."""

    queued: float = 0.0
    gap: float = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that happens, apart from what the requests themselves cause."""

    speed: float  # tokens a second that the device generates, alone and not throttled
    battery: Steps[float] = field(default=Steps(0.9))  # from 0 to 1, before the requests' energy
    charging: Steps[bool] = field(default=Steps(False))
    memory: Steps[Memory] = field(default=Steps(Memory.PLENTY))
    link: Steps[Link | None] = field(default=Steps(Link()))  # None: no network
    health: Steps[Health] = field(default=Steps(Health.UP))
    load: Steps[Load] = field(default=Steps(Load()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request. Times in seconds; no policy knows `answer_tokens`."""

    name: str  # seeds its randomness
    at: float
    private: bool
    prompt_tokens: int
    max_tokens: int
    answer_tokens: int
    first_token_budget: float | None = None
    latency_budget: float | None = None

    @property
    def budgeted(self) -> bool:
        return self.first_token_budget is not None or self.latency_budget is not None


@dataclass(frozen=True, slots=True)
class Step:
    """How long a source takes for its next step, and what the step ends in."""

    seconds: float
    token: bool = False
    loading: bool = False
    failure: str | None = None
