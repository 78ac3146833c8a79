"""How long a reader waits when the cloud dies in the middle of a text.

A real cloud service is killed with SIGKILL after a random token, and the device goes on. The gap that
the reader sees is compared with the device's own time to the next token for the same prompt and
answer so far, with nothing remembered.

A process that is killed gives its memory back before the system ends its connections, and until then
nobody can know. So there is a second connection, on which nothing is said: when it ends, so could the
text's; the time from there is the router's.
"""

import argparse
import contextlib
import json
import os
import random
import socket
import statistics
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).parents[1]))

from edgewise import DeviceState, LatencyLog, Router, Source
from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
from tests.kill_server import KillServer, kill_server

TOKENS = 120
PROMPT = "Once upon a time there was a king who had three daughters, and"


class Ending:
    """A connection that says when it ended."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)))
        self._at = 0.0
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def seen(self) -> float:
        """time.monotonic() when it did."""
        self._thread.join()
        return self._at

    def _wait(self) -> None:
        with contextlib.suppress(ConnectionError):
            while self._socket.recv(4096):  # the server's greeting
                pass
        self._at = time.monotonic()
        self._socket.close()


@dataclass(frozen=True)
class Handoff:
    """Seconds from the cloud's last chunk to the device's first, and from the connection's end."""

    gap: float
    since_end: float
    token_ids: tuple[int, ...]  # prompt and answer until then


def handoff(clouds: KillServer, model: str, after: int) -> Handoff | None:
    """Kill a cloud after so many tokens; None where all had come before the end."""
    address = clouds.start()
    ending, tokens, resumed = Ending(address), 0, None
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
        prompt = router._on_device.tokenizer.encode(PROMPT)
        ids = (*prompt, *stream.generation.token_ids[:tokens])
    return Handoff(resumed - last, resumed - ending.seen(), ids)


def own_time(device: DeviceModel, token_ids: tuple[int, ...]) -> float:
    """Seconds until the device's next token."""
    request = TokenRequest(
        token_ids=token_ids,
        prompt_tokens=len(token_ids),
        max_tokens=1,
        sampling=SamplingParams(temperature=0),
    )
    started = time.monotonic()
    next(device.stream_tokens(request))
    return time.monotonic() - started


def spread(name: str, seconds: list[float]) -> dict[str, float]:
    """Median and maximum, in milliseconds."""
    return {
        f"{name}, median, ms": round(statistics.median(seconds) * 1e3, 1),
        f"{name}, at most, ms": round(max(seconds) * 1e3, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tales")
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    device = DeviceModel.load(options.model, prefix_memory=0)
    own_time(device, tuple(range(1, 40)))
    chance, handoffs, own = random.Random(0), [], []
    with kill_server(options.model, ahead=0) as clouds:
        while len(handoffs) < options.kills:
            if found := handoff(clouds, options.model, chance.randrange(5, TOKENS - 20)):
                handoffs.append(found)
                own.append(own_time(device, found.token_ids))
    result = {"kills": len(handoffs), **spread("device's own first token", own)}
    for words, times in (
        ("gap", [found.gap for found in handoffs]),
        ("since the connection's end", [found.since_end for found in handoffs]),
    ):
        result |= spread(words, times)
        result[f"{words}: at most its own + 50 ms"] = sum(
            seconds <= mine + 0.05 for seconds, mine in zip(times, own, strict=True)
        )
    for name, value in result.items():
        print(f"{name:>55}: {value}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
