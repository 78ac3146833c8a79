"""How long a reader waits when the cloud dies in the middle of an answer.

A real cloud service is killed with SIGKILL after a random token. The gap that the reader sees is
compared with the device's own time to the next token, with an empty prefix cache. The kernel frees a
killed process's memory before it closes its connections, and until then nobody can notice. So a
second, idle connection is held: from its end on the time is the router's.
"""

import contextlib
import os
import random
import socket
import statistics
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from benchmarks.measure import arguments, show
from benchmarks.tokens import request, timed
from edgewise import DeviceState, LatencyLog, Router, Source
from edgewise_edge import DeviceModel
from tests.support.killable_server import KillableServer, killable_server

TOKENS = 120
PROMPT = "Once upon a time there was a king who had three daughters, and"


def connection_end(address: str) -> Future[float]:
    """time.monotonic() when an idle connection to the service ends."""
    host, _, port = address.rpartition(":")
    idle, ended = socket.create_connection((host, int(port))), Future[float]()

    def wait() -> None:
        with idle, contextlib.suppress(ConnectionError):
            while idle.recv(4096):  # the server's greeting
                pass
        ended.set_result(time.monotonic())

    threading.Thread(target=wait, daemon=True).start()
    return ended


@dataclass(frozen=True)
class Handoff:
    """Seconds from the cloud's last chunk to the device's first, and from the connection's end."""

    gap: float
    since_end: float
    answer: tuple[int, ...]  # the cloud's tokens


def handoff(clouds: KillableServer, model: str, after: int) -> Handoff | None:
    """Kill a cloud after `after` tokens; None if all tokens had arrived before it ended."""
    address = clouds.start()
    ended, tokens, resumed = connection_end(address), 0, None
    router = Router(
        model, cloud=address, mode="prefer_in_cloud", device=DeviceState, latency=LatencyLog()
    )
    router.warm_up()
    with router, router.stream(PROMPT, max_tokens=TOKENS, seed=after) as stream:
        for chunk in stream:
            if chunk.source is Source.ON_DEVICE:
                resumed = time.monotonic()
                break
            last, tokens = time.monotonic(), tokens + len(chunk.token_ids)
            if tokens >= after:
                clouds.kill()
                after = TOKENS + 1
        clouds.kill()
        if resumed is None:
            return None
        answer = stream.generation.token_ids[:tokens]
    return Handoff(resumed - last, resumed - ended.result(), answer)


def main() -> None:
    options = arguments(__doc__, model="tales", kills=20).parse_args()
    device = DeviceModel.load(options.model, prefix_memory=0)
    prompt = device.tokenizer.encode(PROMPT)
    timed(device, request(range(1, 40), 1))  # a warm-up
    chance, handoffs, own = random.Random(0), list[Handoff](), list[float]()
    with killable_server(options.model, ahead=0) as clouds:
        while len(handoffs) < options.kills:
            if found := handoff(clouds, options.model, chance.randrange(5, TOKENS - 20)):
                handoffs.append(found)
                own.append(timed(device, request([*prompt, *found.answer], 1))[0])
    figures = {
        "device's own first token": own,
        "gap": [found.gap for found in handoffs],
        "since the connection's end": [found.since_end for found in handoffs],
    }
    result: dict[str, object] = {"kills": len(handoffs)}
    for name, times in figures.items():
        result[f"{name}, median, ms"] = round(statistics.median(times) * 1e3, 1)
        result[f"{name}, at most, ms"] = round(max(times) * 1e3, 1)
    show(result)


if __name__ == "__main__":
    main()
