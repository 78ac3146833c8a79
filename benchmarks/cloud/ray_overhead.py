"""What Ray Serve adds to each message: the same engine behind gRPC alone, and behind its proxy.

One replica of a tiny model (its steps take almost no time, so what carries the tokens is measured)
and some concurrent streams in a closed loop, in turn with a single server. Reports messages a second
over all streams, the processor time a message costs the serving processes (the engine's own part is
in both), and a stream's time to its first message. Give it the smallest model folder with Keras
weights.
"""

import asyncio
import json
import statistics
import time

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
    messages, firsts = 0, list[float]()
    before = [processor_time(service.pid, name) for name in ("", PROXY)]
    started = time.perf_counter()

    async def stream(first: int) -> None:
        nonlocal messages
        request = service.request([first, 2, 3, 4], 100, temperature=1, seed=first)
        while time.perf_counter() < started + seconds:
            asked, seen = time.perf_counter(), 0
            async for _ in service.stub.Generate(request):
                if not seen:
                    firsts.append(time.perf_counter() - asked)
                seen += 1
            messages += seen

    await asyncio.gather(*(stream(first + 1) for first in range(streams)))
    rate = messages / (time.perf_counter() - started)
    after = [processor_time(service.pid, name) for name in ("", PROXY)]
    return {
        "messages_per_second": rate,
        "cpu_ms_per_message": 1e3 * (after[0] - before[0]) / messages,
        "proxy_cpu_ms_per_message": 1e3 * (after[1] - before[1]) / messages,
        "first_message_ms": 1e3 * statistics.median(firsts),
    }


async def main() -> None:
    parser = arguments(__doc__, "model", work=WORK, streams=16, seconds=10.0, rounds=3)
    options = parser.parse_args()
    options.work.mkdir(exist_ok=True)
    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in COMMANDS}
    start = [
        serving(options.work, *command, f"--model={options.model}", slots=options.streams)
        for command in COMMANDS.values()
    ]
    async with start[0] as direct, start[1] as ray:
        for service in (direct, ray):
            await load(service, options.streams, 2)  # warm up
        for _ in range(options.rounds):
            for kind, service in (("direct", direct), ("ray", ray)):
                add(found[kind], await load(service, options.streams, options.seconds))
    result = {
        kind: {name: round(value, 3) for name, value in medians(figures).items()}
        for kind, figures in found.items()
    }
    print(json.dumps({"streams": options.streams, "rounds": options.rounds, **result}))


if __name__ == "__main__":
    asyncio.run(main())
