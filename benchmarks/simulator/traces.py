"""The days: what is asked for, and what happens meanwhile.

Chosen before anything was compared, and not changed to suit anyone:

- Requests come by chance, 100 an hour for three hours. A third has no budget, a third one for the
  first token, a third one for the whole answer; budgets go from what only a good cloud can keep to
  what a slow phone can. A fifth is private. Most answers end before max_tokens, which no strategy
  knows.
- A phone writes 4 to 12 tokens a second. The cloud is this project's own service, as measured in
  benchmarks/README.md: a token each 16 ms alone, each 35 ms when 16 write; 20 ms where load is no
  subject.
- One thing goes wrong in each trace but the calm one, and comes back often enough in three hours to
  count for something.
"""

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from .world import Asked, Crowd, Health, Link, Memory, Steps, World

HOURS = 3
END = HOURS * 3600.0  # seconds
PER_HOUR = 100
PRIVATE = 0.2  # share
FIRST_TOKEN_BUDGETS = (0.5, 1.0, 2.0, 4.0)  # seconds
LATENCY_BUDGETS = (3.0, 6.0, 12.0, 24.0)  # seconds
MAX_TOKENS = (32, 64, 128, 200)
SLOWEST, FASTEST = 4.0, 12.0  # tokens a second


@dataclass(frozen=True, slots=True)
class Trace:
    """A day."""

    world: World
    requests: tuple[Asked, ...]


def calm(seed: int) -> Trace:
    """Nothing happens."""
    chance = random.Random(f"calm/{seed}")
    return Trace(World(writes=_writes(chance)), _requests(chance))


def battery(seed: int) -> Trace:
    """The battery drains from 60 % to 5 % in two and a half hours, and is charged from then on.

    What the requests take comes on top; phone.py throttles below 30 % and 15 %.
    """
    chance = random.Random(f"battery/{seed}")
    plugged = 2.5 * 3600.0
    minutes = range(HOURS * 60)
    drained = [(m * 60.0, 0.6 - 0.55 * m * 60 / plugged) for m in minutes if m * 60 < plugged]
    charged = [
        (m * 60.0, 0.05 + 0.6 * (m * 60 - plugged) / 3600) for m in minutes if m * 60 >= plugged
    ]
    world = World(
        writes=_writes(chance),
        battery=Steps(0.6, drained + charged),
        charging=Steps(False, [(plugged, True)]),
    )
    return Trace(world, _requests(chance))


def memory(seed: int) -> Trace:
    """Other apps take the memory for some minutes at a time: all is slow, or what runs is ended."""
    chance = random.Random(f"memory/{seed}")
    kinds = (Memory.SCARCE, Memory.NONE)
    changes = [
        change
        for start, end in _episodes(chance, pause=600, length=(60, 300))
        for change in ((start, chance.choice(kinds)), (end, Memory.PLENTY))
    ]
    world = World(writes=_writes(chance), memory=Steps(Memory.PLENTY, changes))
    return Trace(world, _requests(chance))


def commute(seed: int) -> Trace:
    """The network changes every ten seconds or so, and is gone in tunnels."""
    chance = random.Random(f"commute/{seed}")
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
    return Trace(World(writes=_writes(chance), link=Steps(Link(), changes)), _requests(chance))


def outage(seed: int) -> Trace:
    """The cloud is down for minutes: first it refuses, then it hangs, or the other way round."""
    chance = random.Random(f"outage/{seed}")
    changes = []
    for start, end in _episodes(chance, pause=1800, length=(180, 900)):
        parts = [Health.REFUSES, Health.HANGS]
        chance.shuffle(parts)
        middle = (start + end) / 2
        changes += [(start, parts[0]), (middle, parts[1]), (end, Health.UP)]
    return Trace(World(writes=_writes(chance), health=Steps(Health.UP, changes)), _requests(chance))


def load(seed: int) -> Trace:
    """Other users crowd the cloud in waves of half an hour, and the phone is asked in bursts."""
    chance = random.Random(f"load/{seed}")
    changes = []
    phase = chance.uniform(0, math.tau)
    for second in range(0, int(END), 5):
        wave = (1 - math.cos(math.tau * second / 1800 + phase)) / 2
        wait = max(0.0, wave - 0.5) * 2 * chance.uniform(2, 8)
        changes.append((float(second), Crowd(wait, 0.016 + 0.019 * wave)))
    requests = _requests(chance)
    for burst, start in enumerate(range(600, int(END), 900)):
        requests += tuple(
            _asked(chance, f"burst/{burst}/{n}", start + chance.uniform(0, 2))
            for n in range(chance.randint(3, 8))
        )
    return Trace(World(writes=_writes(chance), crowd=Steps(Crowd(), changes)), requests)


TRACES: Mapping[str, Callable[[int], Trace]] = {
    made.__name__: made for made in (calm, battery, memory, commute, outage, load)
}


def _writes(chance: random.Random) -> float:
    return chance.uniform(SLOWEST, FASTEST)


def _requests(chance: random.Random) -> tuple[Asked, ...]:
    times, time = [], 0.0
    while (time := time + chance.expovariate(PER_HOUR / 3600)) < END:
        times.append(time)
    return tuple(_asked(chance, str(number), time) for number, time in enumerate(times))


def _asked(chance: random.Random, name: str, at: float) -> Asked:
    most = chance.choice(MAX_TOKENS)
    kind = chance.randrange(3)
    return Asked(
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
