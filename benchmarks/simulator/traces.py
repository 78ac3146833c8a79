"""The workloads: what is requested, and what happens meanwhile.

Chosen before anything was compared, and not tuned for any policy:

- Requests arrive at random for three hours. A third has no budget, a third one for the first token, a
  third one for the whole answer. Most answers end before max_tokens, which no policy knows.
- The cloud is this project's own service, as measured in docs/benchmarks.md: 16 ms a token alone, 35
  with 16 streams; 20 where its load is constant.
- In each trace except the calm one a single thing goes wrong, often enough in three hours to matter.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .world import Health, Link, Load, Memory, Request, Steps, World

HOURS = 3
END = HOURS * 3600.0  # seconds
PER_HOUR = 100
PRIVATE = 0.2  # share
FIRST_TOKEN_BUDGETS = (0.5, 1.0, 2.0, 4.0)  # seconds
LATENCY_BUDGETS = (3.0, 6.0, 12.0, 24.0)  # seconds
MAX_TOKENS = (32, 64, 128, 200)
SPEEDS = 4.0, 12.0  # tokens a second


@dataclass(frozen=True, slots=True)
class Trace:
    """A day's world and requests."""

    world: World
    requests: tuple[Request, ...]


def calm(chance: random.Random) -> Trace:
    """Nothing happens."""
    return _trace(chance)


def battery(chance: random.Random) -> Trace:
    """The battery drains from 60 % to 5 % in two and a half hours, and is charged from then on.

    The requests' energy comes on top; device.py throttles below 30 % and 15 %.
    """
    plugged = 2.5 * 3600.0
    minutes = [minute * 60.0 for minute in range(HOURS * 60)]
    drained = [(m, 0.6 - 0.55 * m / plugged) for m in minutes if m < plugged]
    charged = [(m, 0.05 + 0.6 * (m - plugged) / 3600) for m in minutes if m >= plugged]
    charge, charging = Steps(0.6, drained + charged), Steps(False, [(plugged, True)])
    return _trace(chance, battery=charge, charging=charging)


def memory(chance: random.Random) -> Trace:
    """Other apps take the memory for minutes at a time: all is slow, or what runs is killed."""
    kinds = (Memory.SCARCE, Memory.NONE)
    changes = [
        change
        for start, end in _episodes(chance, pause=600, length=(60, 300))
        for change in ((start, chance.choice(kinds)), (end, Memory.PLENTY))
    ]
    return _trace(chance, memory=Steps(Memory.PLENTY, changes))


def commute(chance: random.Random) -> Trace:
    """The network changes every ten seconds or so, and is gone in tunnels."""
    changes: list[tuple[float, Link | None]] = []
    time = 0.0
    while time < END:
        trip, bandwidth = chance.lognormvariate(math.log(0.09), 0.6), chance.uniform(4.7, 7.3)
        changes.append((time, Link(trip, 10**bandwidth)))
        time += chance.expovariate(1 / 10)
    for start, end in _episodes(chance, pause=420, length=(20, 120)):
        after = [change for change in changes if change[0] <= end][-1][1]
        changes = [change for change in changes if not start <= change[0] <= end]
        changes += [(start, None), (end, after)]
    return _trace(chance, link=Steps(Link(), changes))


def outage(chance: random.Random) -> Trace:
    """The cloud is down for minutes: first it refuses, then it hangs, or the other way round."""
    changes = []
    for start, end in _episodes(chance, pause=1800, length=(180, 900)):
        kinds = [Health.REFUSES, Health.HANGS]
        chance.shuffle(kinds)
        changes += [(start, kinds[0]), ((start + end) / 2, kinds[1]), (end, Health.UP)]
    return _trace(chance, health=Steps(Health.UP, changes))


def load(chance: random.Random) -> Trace:
    """Other users load the cloud in waves of half an hour, and the phone gets bursts of requests."""
    changes = []
    phase = chance.uniform(0, math.tau)
    for second in range(0, int(END), 5):
        wave = (1 - math.cos(math.tau * second / 1800 + phase)) / 2
        wait = max(0.0, wave - 0.5) * 2 * chance.uniform(2, 8)
        changes.append((float(second), Load(wait, 0.016 + 0.019 * wave)))
    requests = _requests(chance)
    for burst, start in enumerate(range(600, int(END), 900)):
        requests += tuple(
            _request(chance, f"burst/{burst}/{n}", start + chance.uniform(0, 2))
            for n in range(chance.randint(3, 8))
        )
    speed = chance.uniform(*SPEEDS)
    return Trace(World(speed=speed, load=Steps(Load(), changes)), requests)


TRACES: Mapping[str, Callable[[random.Random], Trace]] = {
    made.__name__: made for made in (calm, battery, memory, commute, outage, load)
}


def make_trace(name: str, seed: int) -> Trace:
    """One of TRACES; the same for the same seed."""
    return TRACES[name](random.Random(f"{name}/{seed}"))


def _trace(chance: random.Random, **changes: Any) -> Trace:
    return Trace(World(speed=chance.uniform(*SPEEDS), **changes), _requests(chance))


def _requests(chance: random.Random) -> tuple[Request, ...]:
    times, time = [], 0.0
    while (time := time + chance.expovariate(PER_HOUR / 3600)) < END:
        times.append(time)
    return tuple(_request(chance, str(number), time) for number, time in enumerate(times))


def _request(chance: random.Random, name: str, at: float) -> Request:
    most = chance.choice(MAX_TOKENS)
    kind = chance.randrange(3)
    return Request(
        name=f"{name}/{chance.random()}",
        at=at,
        private=chance.random() < PRIVATE,
        prompt_tokens=min(700, max(8, round(chance.lognormvariate(math.log(80), 0.9)))),
        max_tokens=most,
        answer_tokens=min(most, 1 + int(chance.expovariate(1 / (0.7 * most)))),
        first_token_budget=chance.choice(FIRST_TOKEN_BUDGETS) if kind == 1 else None,
        latency_budget=chance.choice(LATENCY_BUDGETS) if kind == 2 else None,
    )


def _episodes(
    chance: random.Random, *, pause: float, length: tuple[float, float]
) -> Iterator[tuple[float, float]]:
    """Starts and ends, `pause` seconds apart on average."""
    time = chance.expovariate(1 / pause)
    while time < END:
        end = time + chance.uniform(*length)
        yield time, end
        time = end + chance.expovariate(1 / pause)
