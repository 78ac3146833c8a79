"""Random faults, many texts at once: every answer whole, nothing private sent, nothing left behind.

`make soak` runs it for ten minutes; EDGEWISE_SOAK says for how many seconds.
"""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from edgewise import (
    AttemptEnded,
    CloudTimeouts,
    DeviceState,
    Event,
    Generation,
    LatencyLog,
    NoSourceError,
    Router,
    Source,
    VetoCode,
)
from edgewise_edge import RuntimeFailedError
from tests.serving import serving
from tests.support.fault_proxy import FaultProxy, fault_proxy

SECONDS = float(os.environ.get("EDGEWISE_SOAK", "15"))
THREADS, TASKS = 3, 2
PROMPTS = ("in the winter the water was", "the", "a thin wind in the", "here – there é")
TIMEOUTS = CloudTimeouts(connect=0.5, first_token=1.0, between_tokens=1.0, probe_interval=0.5)
STATES = (
    DeviceState(battery=0.9),
    DeviceState(battery=0.1, charging=False),
    DeviceState(memory_pressure=0.9),
    DeviceState(low_power_mode=True),
)
ENOUGH = {VetoCode.FAILED, VetoCode.CIRCUIT_OPEN, VetoCode.BUSY, VetoCode.PRIVATE, VetoCode.MODE}


@dataclass
class Seen:
    """What came of it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    attempts: Counter[tuple[str, Source]] = field(default_factory=Counter)

    def __call__(self, event: Event) -> None:
        """Count attempts, as an observer."""
        if isinstance(event, AttemptEnded):
            self.attempts[event.generation, event.source] += 1


def options(chance: random.Random) -> dict[str, object]:
    """What a request may ask for; a few that repeat, so that all can be compared."""
    return {
        "temperature": chance.choice([0.0, 1.0]),
        "seed": chance.randrange(3),
        "max_tokens": chance.choice([3, 40, 90]),
        "repetition_penalty": chance.choice([1.0, 1.3]),
        "stop": chance.choice([None, "th"]),
    }


def ways(chance: random.Random) -> dict[str, object]:
    """How it may be answered, which must make no difference to the text."""
    return {
        "mode": chance.choice([None, "prefer_in_cloud", "prefer_in_cloud", "only_on_device"]),
        "privacy": chance.choice([None, None, "private"]),
        "hedge_after": chance.choice([None, 0.05]),
        "first_token_budget": chance.choice([None, 0.5]),
        "latency_budget": chance.choice([None, None, 2.0]),
    }


def check(seen: Seen, generation: Generation, right: Generation, asked: dict[str, object]) -> None:
    """Compare an answer with the unbroken one."""
    tokens = len(generation.token_ids)
    parts = generation.segments
    problems = {
        "other tokens": generation.token_ids != right.token_ids,
        "another text": generation.text != right.text,
        "another end": generation.finish_reason != right.finish_reason,
        "usage": generation.usage != right.usage,
        "segments": [part.start for part in parts]
        != [sum(p.tokens for p in parts[:n]) for n in range(len(parts))]
        or sum(part.tokens for part in parts) != tokens,
        "leak": asked["privacy"] == "private"
        and any(part.source is Source.IN_CLOUD for part in parts),
    }
    made = [(part.source, part.tokens) for part in parts]
    seen.wrong += [f"{problem}: {asked} {made}" for problem, there in problems.items() if there]
    seen.outcomes["+".join(part.source for part in parts)] += 1


class Fickle:
    """A device model that fails now and then, at any token."""

    def __init__(self, router: Router, chance: random.Random) -> None:
        router.warm_up()
        model = router._on_device._model
        whole = model.stream_tokens

        def stream_tokens(request, stop):
            breaks = chance.randrange(60) if chance.random() < 0.2 else -1
            for count, token in enumerate(whole(request, stop)):
                if count == breaks:
                    raise RuntimeFailedError("made to fail")
                yield token

        model.stream_tokens = stream_tokens


def trouble(proxy: FaultProxy, state: list[DeviceState], chance: random.Random, until: float):
    """Break things, and mend them again."""
    while time.monotonic() < until:
        fault = chance.choice(["delay", "throttle", "stall", "cut", "reset", "refuse", "heal"])
        extent = {"after_tokens": chance.randrange(100)} if chance.random() < 0.7 else {}
        amount = {"delay": [0.05], "throttle": [2000.0]}.get(fault, [])
        getattr(proxy, fault)(*amount, **({} if fault == "heal" else extent))
        state[0] = chance.choice(STATES)
        time.sleep(chance.uniform(0.02, 0.8))
        proxy.heal()
        time.sleep(chance.uniform(0.0, 0.3))
    state[0] = STATES[0]


@pytest.fixture
def rights(exact_folder: Path) -> Iterator[object]:
    """What an unbroken device answers, asked once for each request."""
    known, lock = {}, threading.Lock()
    with Router(exact_folder, device=DeviceState, latency=LatencyLog(), threads=1) as alone:

        def right(prompt: str, asked: dict[str, object]) -> Generation:
            key = (prompt, *asked.values())
            with lock:
                if key not in known:
                    known[key] = alone.generate(prompt, **asked)
                return known[key]

        yield right


def one(router: Router, seen: Seen, right: object, chance: random.Random) -> None:
    """Ask once, and compare; now and then walk away in the middle."""
    prompt, asked, way = chance.choice(PROMPTS), options(chance), ways(chance)
    try:
        with router.stream(prompt, **asked, **way) as stream:
            for count, _ in enumerate(stream):
                if count == 5 and chance.random() < 0.1:
                    seen.outcomes["walked away"] += 1
                    return
        check(seen, stream.generation, right(prompt, asked), asked | way)
    except NoSourceError as error:
        codes = {veto.code for veto in error.vetoes.values()}
        seen.outcomes["no source"] += 1
        if not codes & ENOUGH:
            seen.wrong.append(f"refused for {codes}: {asked | way}")


async def one_later(router: Router, seen: Seen, right: object, chance: random.Random) -> None:
    """The same from asyncio."""
    prompt, asked, way = chance.choice(PROMPTS), options(chance), ways(chance)
    try:
        generation = await router.agenerate(prompt, **asked, **way)
        check(seen, generation, await asyncio.to_thread(right, prompt, asked), asked | way)
    except NoSourceError:
        seen.outcomes["no source"] += 1


@pytest.mark.timeout(240 + 2 * SECONDS)
def test_every_answer_is_whole(checkpoint: Path, exact_folder: Path, rights: object) -> None:
    """Whatever fails, in any order."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance, seen, state = random.Random(seed), Seen(), [STATES[0]]
    with (
        serving(str(checkpoint), slots=4) as service,
        fault_proxy(service.address) as proxy,
        Router(
            exact_folder,
            cloud=proxy.address,
            cloud_timeouts=TIMEOUTS,
            device=lambda: state[0],
            latency=LatencyLog(),
            threads=1,
            observers=[seen],
        ) as router,
    ):
        router._probe = router._gathering._probe = lambda: state[0]  # not a second old
        Fickle(router, random.Random(seed + 1))
        until = time.monotonic() + SECONDS

        def work(number: int) -> None:
            mine = random.Random(seed + number)
            while time.monotonic() < until:
                one(router, seen, rights, mine)

        async def tasks() -> None:
            async def task(number: int) -> None:
                mine = random.Random(seed + number)
                while time.monotonic() < until:
                    await one_later(router, seen, rights, mine)

            await asyncio.gather(*(task(100 + number) for number in range(TASKS)))

        threads = [threading.Thread(target=work, args=(10 + n,)) for n in range(THREADS)]
        threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
        for thread in threads:
            thread.start()
        memory = psutil.Process().memory_info().rss
        trouble(proxy, state, chance, until)
        for thread in threads:
            thread.join()
        grown = psutil.Process().memory_info().rss - memory
        proxy.heal()
        while service.held or router._on_device._writing:  # the test's timeout is the limit
            time.sleep(0.01)
    while left := [t for t in threading.enumerate() if t.name.startswith("edgewise-")]:
        assert all(thread.daemon or thread.is_alive() for thread in left)
        time.sleep(0.01)
    in_cloud = {name: n for (name, side), n in seen.attempts.items() if side is Source.IN_CLOUD}
    amplification = sum(in_cloud.values()) / max(1, len(in_cloud))
    print(dict(seen.outcomes), f"amplification {amplification:.3f}, {grown / 1e6:.0f} MB more")
    assert not seen.wrong
    assert sum(seen.outcomes.values()) > SECONDS
    assert any("+" in outcome for outcome in seen.outcomes)  # texts did move
    assert amplification <= 1.2
