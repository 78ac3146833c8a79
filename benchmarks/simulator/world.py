"""What happens to a phone, its network and its cloud: functions of time, whoever uses them."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Generic, TypeVar

T = TypeVar("T")


class Steps(Generic[T]):
    """A value that changes at some times, in seconds; the first one holds from the beginning."""

    def __init__(self, first: T, changes: Iterable[tuple[float, T]] = ()) -> None:
        later = sorted(changes, key=lambda change: change[0])
        self._times = [time for time, _ in later]
        self._values = [first, *(value for _, value in later)]

    def at(self, time: float) -> T:
        """The value then."""
        return self._values[bisect_right(self._times, time)]

    def next_change(self, time: float) -> float | None:
        """When it changes next."""
        index = bisect_right(self._times, time)
        return self._times[index] if index < len(self._times) else None


class Memory(Enum):
    """How the phone is off for memory."""

    PLENTY = auto()
    SCARCE = auto()  # pages are read again and again: all is slower
    NONE = auto()  # the system ends what runs


class Health(Enum):
    """How the cloud is."""

    UP = auto()
    REFUSES = auto()  # connections are refused, and streams cut, at once
    HANGS = auto()  # nothing comes any more, nor an error


@dataclass(frozen=True, slots=True)
class Link:
    """The way to the cloud."""

    round_trip: float = 0.06  # seconds
    bandwidth: float = 5e6  # bits a second


@dataclass(frozen=True, slots=True)
class Crowd:
    """What other users make of the cloud."""

    wait: float = 0.0  # seconds in its queue
    gap: float = 0.02  # seconds between two tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """All that goes on, apart from what the requests themselves bring about."""

    writes: float  # tokens a second that the phone writes, alone and not throttled
    battery: Steps[float] = field(
        default=Steps(0.9)
    )  # charge from 0 to 1, without what the requests take
    charging: Steps[bool] = field(default=Steps(False))
    memory: Steps[Memory] = field(default=Steps(Memory.PLENTY))
    link: Steps[Link | None] = field(default=Steps(Link()))  # None: no network
    health: Steps[Health] = field(default=Steps(Health.UP))
    crowd: Steps[Crowd] = field(default=Steps(Crowd()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request. Times in seconds; how long the answer will be, only the world knows."""

    name: str  # what its chances are drawn by
    at: float
    private: bool
    prompt_tokens: int
    max_tokens: int
    answer_tokens: int
    first_token_budget: float | None = None
    latency_budget: float | None = None

    @property
    def budgeted(self) -> bool:
        """Whether there is a budget to keep."""
        return self.first_token_budget is not None or self.latency_budget is not None


@dataclass(frozen=True, slots=True)
class Wait:
    """What a side says when asked to go on: for how long to wait, and what comes then."""

    seconds: float
    token: bool = False
    loading: bool = False
    failure: str | None = None  # it ends here
