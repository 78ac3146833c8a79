"""Gaps between tokens while devices download from the same service: `tales`, 8 streams.

Windows without downloads, with four at the service's default bandwidth together, and none again take
turns in one run, so that what else the machine does slows all alike. The downloads have a process of
their own, whose work counts too: here it takes the service's cores.
"""

import asyncio
import json
import multiprocessing
import os
import random
import tempfile
import threading
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc

from benchmarks.cloud.mixed_load import Client
from benchmarks.cloud.servers import gaps, percentiles, serving
from benchmarks.measure import add, arguments, medians
from edgewise_proto import delivery_pb2 as pb
from edgewise_proto import delivery_pb2_grpc as pb_grpc

STREAMS, DOWNLOADS = 8, 4
NAME, SIZE = "targets/model", 130 * 10**6  # bytes
LEAD = 2.0  # seconds after a change that do not count: streams that began before it end


def main() -> None:
    options = arguments(__doc__, rounds=8, seconds=4.0, bandwidth=10_000_000).parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = asyncio.run(
            measured(Path(work), options.rounds, options.seconds, options.bandwidth)
        )
    print(json.dumps(found))


async def measured(work: Path, rounds: int, seconds: float, bandwidth: int) -> dict[str, float]:
    """Medians over the rounds: gaps in seconds, downloaded bytes per second."""
    channel = work / "channel"
    (channel / "metadata").mkdir(parents=True)
    (channel / "targets").mkdir()
    (channel / NAME).write_bytes(os.urandom(SIZE))
    command = (
        "serve",
        "--model=tales",
        f"--channel={channel}",
        f"--delivery-bandwidth={bandwidth}",
    )
    found: dict[str, list[float]] = {}
    async with serving(work, *command, slots=STREAMS) as service:
        devices = Devices(service.address)
        client = Client(service.ask, range(1000))
        async with client.streams(STREAMS) as answers:
            for index in range(rounds):
                for name, wanted in random.sample([("0 downloads", 0), ("4 downloads", 1)], 2):
                    devices.download(wanted=bool(wanted))
                    await asyncio.sleep(LEAD)
                    answers.clear()
                    before, started = devices.received.value, time.perf_counter()
                    await asyncio.sleep(seconds)
                    rate = (devices.received.value - before) / (time.perf_counter() - started)
                    figures = percentiles("gap", gaps(answers))
                    figures |= {"max": max(gaps(answers)), "bytes/s": rate}
                    add(found, {f"{name}, {what}": value for what, value in figures.items()})
                    print(f"round {index + 1}: {name}", json.dumps(figures), flush=True)
            devices.stop()
    return medians(found)


class Devices:
    """A process with four downloads, on connections of their own, which can be switched on and off."""

    def __init__(self, address: str) -> None:
        context = multiprocessing.get_context("spawn")
        self.received: Synchronized[int] = context.Value("q", 0)
        self._wanted = context.Event()
        self._process = context.Process(
            target=_download, args=(address, self._wanted, self.received), daemon=True
        )
        self._process.start()

    def download(self, *, wanted: bool) -> None:
        """Begin, or stop."""
        if wanted:
            self._wanted.set()
        else:
            self._wanted.clear()

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


def _download(address: str, wanted: Event, received: "Synchronized[int]") -> None:
    def repeat() -> None:
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(address, own) as channel:
            while wanted.wait():
                call = pb_grpc.DeliveryStub(channel).Fetch(pb.FetchRequest(name=NAME))
                for chunk in call:
                    with received.get_lock():
                        received.value += len(chunk.data)
                    if not wanted.is_set():
                        call.cancel()
                        break

    threads = [threading.Thread(target=repeat) for _ in range(DOWNLOADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
