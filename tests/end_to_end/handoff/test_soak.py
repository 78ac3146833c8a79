"""Random faults, concurrent requests: complete answers, no private token sent, nothing left running.

`make soak` runs it for ten minutes; EDGEWISE_SOAK is the number of seconds.
"""

import asyncio
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edgewise import (
    CloudTimeouts,
    DeviceState,
    Generation,
    LatencyLog,
    NoSourceError,
    Router,
    Source,
    VetoCode,
)
from edgewise.device.state import CachedProbe
from edgewise_edge import RuntimeFailedError
from tests.end_to_end.handoff.soak_requests import PROMPTS, Results, check, options, routing_options
from tests.support.network.fault_proxy import FaultProxy, fault_proxy
from tests.support.service import serving

SECONDS = float(os.environ.get("EDGEWISE_SOAK", "8"))
THREADS, TASKS = 3, 2
TIMEOUTS = CloudTimeouts(connect=0.5, first_token=1.0, between_tokens=1.0, probe_interval=0.5)
STATES = (
    DeviceState(battery=0.9),
    DeviceState(battery=0.1, charging=False),
    DeviceState(memory_pressure=0.9),
    DeviceState(low_power_mode=True),
)
ALLOWED_VETOES = {
    VetoCode.FAILED,
    VetoCode.CIRCUIT_OPEN,
    VetoCode.BUSY,
    VetoCode.PRIVATE,
    VetoCode.MODE,
}


class Fickle:
    """A device model that fails now and then, at any token."""

    def __init__(self, router: Router, chance: random.Random) -> None:
        router.warm_up()
        model = router.device_source.model
        whole = model.stream_tokens

        def stream_tokens(*arguments):
            breaks = chance.randrange(60) if chance.random() < 0.2 else -1
            for count, token in enumerate(whole(*arguments)):
                if count == breaks:
                    raise RuntimeFailedError("made to fail")
                yield token

        model.stream_tokens = stream_tokens


def make_trouble(
    proxy: FaultProxy, state: list[DeviceState], chance: random.Random, done: threading.Event
) -> None:
    """Break things, and repair them."""
    while not done.is_set():
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
def expected(exact_folder: Path) -> Iterator[object]:
    """What an unbroken run on the device answers; computed once per request."""
    known, lock = {}, threading.Lock()
    with Router(exact_folder, device=DeviceState, latency=LatencyLog(), threads=1) as alone:

        def answer(prompt: str, asked: dict[str, object]) -> Generation:
            key = (prompt, *asked.values())
            with lock:
                if key not in known:
                    known[key] = alone.generate(prompt, **asked)
                return known[key]

        yield answer


def one(router: Router, results: Results, expected: object, chance: random.Random) -> None:
    """Send one request and compare; now and then leave midway."""
    prompt, asked, routing = chance.choice(PROMPTS), options(chance), routing_options(chance)
    try:
        with router.stream(prompt, **asked, **routing) as stream:
            for count, _ in enumerate(stream):
                if count == 5 and chance.random() < 0.1:
                    results.outcomes["left midway"] += 1
                    return
        check(results, stream.generation, expected(prompt, asked), asked | routing)
    except NoSourceError as error:
        codes = {veto.code for veto in error.vetoes.values()}
        results.outcomes["no source"] += 1
        if not codes & ALLOWED_VETOES:
            results.wrong.append(f"refused for {codes}: {asked | routing}")


async def one_async(
    router: Router, results: Results, expected: object, chance: random.Random
) -> None:
    """The same with asyncio."""
    prompt, asked, routing = chance.choice(PROMPTS), options(chance), routing_options(chance)
    try:
        generation = await router.agenerate(prompt, **asked, **routing)
        check(
            results, generation, await asyncio.to_thread(expected, prompt, asked), asked | routing
        )
    except NoSourceError:
        results.outcomes["no source"] += 1


def callers(
    router: Router, results: Results, expected: object, seed: int, done: threading.Event
) -> Iterator[threading.Thread]:
    """Threads that send requests until `done`; the last one runs asyncio tasks."""

    def work(chance: random.Random) -> None:
        while not done.is_set():
            one(router, results, expected, chance)

    async def task(chance: random.Random) -> None:
        while not done.is_set():
            await one_async(router, results, expected, chance)

    async def tasks() -> None:
        await asyncio.gather(*(task(random.Random(seed + 100 + n)) for n in range(TASKS)))

    for number in range(THREADS):
        yield threading.Thread(target=work, args=(random.Random(seed + 10 + number),))
    yield threading.Thread(target=lambda: asyncio.run(tasks()))


@pytest.mark.timeout(600 + 2 * SECONDS)
def test_every_answer_is_complete(exact_folder: Path, expected: object) -> None:
    """Whatever fails, in any order."""
    seed = random.randrange(10**6)
    print("seed", seed)
    chance, results, state = random.Random(seed), Results(), [STATES[0]]
    with (
        serving(str(exact_folder), slots=2) as service,
        fault_proxy(service.address) as proxy,
        Router(
            exact_folder,
            cloud=proxy.address,
            cloud_timeouts=TIMEOUTS,
            device=CachedProbe(lambda: state[0], max_age=0.0),
            latency=LatencyLog(),
            threads=1,
            observers=[results],
        ) as router,
    ):
        Fickle(router, random.Random(seed + 1))
        done, until = threading.Event(), time.monotonic() + SECONDS

        threads = [
            *callers(router, results, expected, seed, done),
            threading.Thread(target=make_trouble, args=(proxy, state, chance, done)),
        ]
        for thread in threads:
            thread.start()
        memory = psutil.Process().memory_info().rss
        while time.monotonic() < until or not results.enough:  # the test's timeout is the limit
            time.sleep(0.05)
        done.set()
        for thread in threads:
            thread.join()
        growth = psutil.Process().memory_info().rss - memory
        proxy.heal()
        while service.held or router.device_source.running:  # the test's timeout is the limit
            time.sleep(0.01)
    while left := [t for t in threading.enumerate() if t.name.startswith("edgewise-")]:
        assert all(thread.daemon or thread.is_alive() for thread in left)
        time.sleep(0.01)
    in_cloud = {
        name: n for (name, source), n in results.attempts.items() if source is Source.IN_CLOUD
    }
    amplification = sum(in_cloud.values()) / max(1, len(in_cloud))
    print(dict(results.outcomes), f"amplification {amplification:.3f}, {growth / 1e6:.0f} MB more")
    assert not results.wrong
    assert amplification <= 1.2
