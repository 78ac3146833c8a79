"""What Ray Serve adds to each message: the same engine behind gRPC alone, and behind its proxy.

One replica of a tiny model, whose steps take almost no time, and concurrent streams in a closed loop,
in turn with a single server. A message's processor time includes the engine's. Give it the smallest
model folder with Keras weights.
"""

import asyncio
import json
import time
from contextlib import AsyncExitStack

import psutil

from benchmarks.cloud.servers import Service, serving
from benchmarks.measure import add, arguments, medians
from benchmarks.peers.workspace import WORK

COMMANDS = {"direct": ["serve"], "ray": ["serve-ray", "--cpus", "0"]}
PROXY = "ray::Proxy"  # how Serve's proxy names its process


def processor_time(pid: int, name: str = "") -> float:
    """Seconds of processor time, of the process and its descendants whose names begin with `name`."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family if member.name().startswith(name)]
    return sum(used.user + used.system for used in times)


async def load(service: Service, streams: int, seconds: float) -> dict[str, float]:
    """Figures of closed-loop streams, started again until `seconds` have passed."""
    messages = 0
    names = ("", PROXY)
    before = [processor_time(service.pid, name) for name in names]
    started = time.perf_counter()

    async def stream(first: int) -> None:
        nonlocal messages
        while time.perf_counter() < started + seconds:
            async for _ in service.ask([first, 2, 3, 4], 100, temperature=1, seed=first):
                messages += 1

    await asyncio.gather(*(stream(first + 1) for first in range(streams)))
    rate = messages / (time.perf_counter() - started)
    used = [processor_time(service.pid, name) - before[index] for index, name in enumerate(names)]
    return {
        "messages_per_second": rate,
        "cpu_ms_per_message": 1e3 * used[0] / messages,
        "proxy_cpu_ms_per_message": 1e3 * used[1] / messages,
    }


async def main() -> None:
    parser = arguments(__doc__, "model", work=WORK, streams=16, seconds=10.0, rounds=3)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    model, streams = f"--model={options.model}", options.streams
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in COMMANDS}
    async with AsyncExitStack() as running:
        services = {}
        for kind, command in COMMANDS.items():
            start = serving(options.work, *command, model, slots=streams)
            services[kind] = await running.enter_async_context(start)
            await load(services[kind], streams, 2)  # warm up
        for _ in range(options.rounds):
            for kind, service in services.items():
                add(found[kind], await load(service, streams, options.seconds))
    result = {kind: medians(figures) for kind, figures in found.items()}
    print(json.dumps({"streams": streams, "rounds": options.rounds, **result}))


if __name__ == "__main__":
    asyncio.run(main())
