"""What Ray Serve adds to each message: the same engine behind gRPC alone, and behind its proxy.

One replica of a tiny model (its steps take next to nothing, so that what carries the tokens is what
is measured), some streams at once in a closed loop, in turn with a single server. Prints one line
of JSON: messages a second over all streams, the processor time a message costs the serving
processes (the engine's own part is in both), and a stream's time to its first message.

    python benchmarks/ray_overhead.py MODEL_FOLDER [--streams 16] [--seconds 10] [--rounds 3]
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psutil

from edgewise_proto import generation_pb2 as pb
from edgewise_proto import generation_pb2_grpc as pb_grpc

PORTS = {"direct": 50961, "ray": 50962}
COMMANDS = {"direct": ["serve"], "ray": ["serve-ray", "--cpus", "0"]}
PROXY = "ray::Proxy"  # how Serve's proxy names its process
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}


@contextmanager
def serving(kind: str, model: str, slots: int) -> Iterator[psutil.Process]:
    """Run the service until the block ends."""
    command = [
        *(str(Path(sys.executable).parent / "edgewise-cloud"), *COMMANDS[kind]),
        *("--model", model, "--port", str(PORTS[kind]), "--slots", str(slots)),
    ]
    with subprocess.Popen(command, env={**os.environ, **QUIET}) as process:
        try:
            wait_until_serving(PORTS[kind], process)
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


def wait_until_serving(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Return once the model is described."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.GeneratorStub(channel)
        while process.poll() is None:
            try:
                stub.GetModel(pb.GetModelRequest(), timeout=2)
                return
            except grpc.RpcError:
                time.sleep(0.5)
    sys.exit("the service did not start")


def processor_time(process: psutil.Process, name: str = "") -> float:
    """Seconds of processor time, of the process and all it started whose names begin with `name`."""
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family if member.name().startswith(name)]
    return sum(used.user + used.system for used in times)


async def load(port: int, streams: int, seconds: float) -> tuple[float, float]:
    """Messages a second over all streams, and the median time to the first one, in seconds."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = pb_grpc.GeneratorStub(channel)
        model = await stub.GetModel(pb.GetModelRequest())
        ends = time.perf_counter() + seconds
        messages, firsts = 0, list[float]()

        async def stream(first: int) -> None:
            nonlocal messages
            request = pb.GenerateRequest(
                token_ids=[first, 2, 3, 4],
                prompt_tokens=4,
                max_tokens=100,
                sampling=pb.Sampling(temperature=1, top_p=1, repetition_penalty=1, seed=first),
                vocabulary=model.vocabulary,
            )
            while time.perf_counter() < ends:
                asked, seen = time.perf_counter(), 0
                async for _ in stub.Generate(request):
                    if not seen:
                        firsts.append(time.perf_counter() - asked)
                    seen += 1
                messages += seen

        started = time.perf_counter()
        await asyncio.gather(*(stream(first + 1) for first in range(streams)))
        return messages / (time.perf_counter() - started), statistics.median(firsts)


def main() -> None:
    """Measure in turn, print medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a model folder with Keras weights; the smaller the better")
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rates: dict[str, list[float]] = {kind: [] for kind in PORTS}
    costs: dict[str, list[float]] = {kind: [] for kind in PORTS}
    firsts: dict[str, list[float]] = {kind: [] for kind in PORTS}
    proxy: list[float] = []
    with (
        serving("direct", options.model, options.streams) as direct,
        serving("ray", options.model, options.streams) as ray,
    ):
        processes = {"direct": direct, "ray": ray}
        for port in PORTS.values():
            asyncio.run(load(port, options.streams, 2))  # warm up
        for _ in range(options.rounds):
            for kind, port in PORTS.items():
                before = processor_time(processes[kind])
                before_proxy = processor_time(processes[kind], PROXY)
                started = time.perf_counter()
                rate, first = asyncio.run(load(port, options.streams, options.seconds))
                messages = rate * (time.perf_counter() - started)
                rates[kind].append(rate)
                costs[kind].append((processor_time(processes[kind]) - before) / messages)
                firsts[kind].append(first)
                if kind == "ray":
                    proxy.append((processor_time(ray, PROXY) - before_proxy) / messages)
    print(
        json.dumps(
            {
                "streams": options.streams,
                "rounds": options.rounds,
                **{
                    kind: {
                        "messages_per_second": round(statistics.median(rates[kind])),
                        "cpu_ms_per_message": round(1e3 * statistics.median(costs[kind]), 3),
                        "first_message_ms": round(1e3 * statistics.median(firsts[kind]), 1),
                    }
                    for kind in PORTS
                },
                "proxy_cpu_ms_per_message": round(1e3 * statistics.median(proxy), 3),
            }
        )
    )


if __name__ == "__main__":
    main()
