"""What the workers share: JSON lines in, JSON lines out, and one way to take times.

A request is {"prompt": [ids], "new_tokens": N}; every worker answers it as `Answer` says. Needs
nothing but Python.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

# Writes the new tokens of (prompt, new_tokens), greedily and from an empty cache, and calls its
# third argument with each as soon as it is known.
Generate = Callable[[list[int], int, Callable[[int], None]], None]


class Answer(TypedDict):
    """What a request led to; times in seconds, memory in bytes."""

    tokens: list[int]
    time_to_first_token: float  # from the request's receipt
    decode_seconds: float  # from the first new token to the last
    resident_memory: int  # VmRSS after the run
    since_start: float  # from the process's first statement to the first new token


def options() -> argparse.Namespace:
    """The command line of every worker: `model`, a path, and `threads`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def serve(generate: Generate, started: float) -> None:
    """Answer requests until standard input ends; `started` is time.perf_counter()'s."""
    for line in sys.stdin:
        print(json.dumps(answered(generate, line, started)), flush=True)


def answered(generate: Generate, line: str, started: float) -> Answer:
    """Run one request and time it."""
    received = time.perf_counter()
    request = json.loads(line)
    tokens: list[int] = []
    times: list[float] = []

    def known(token: int) -> None:
        times.append(time.perf_counter())
        tokens.append(token)

    generate(request["prompt"], request["new_tokens"], known)
    if len(tokens) != request["new_tokens"]:
        message = f"{len(tokens)} tokens instead of {request['new_tokens']}"
        raise RuntimeError(message)
    return {
        "tokens": tokens,
        "time_to_first_token": times[0] - received,
        "decode_seconds": times[-1] - times[0],
        "resident_memory": resident_memory(),
        "since_start": times[0] - started,
    }


def resident_memory() -> int:
    """VmRSS, in bytes; the pages of mapped files that were touched are part of it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024
