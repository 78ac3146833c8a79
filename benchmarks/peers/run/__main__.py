"""Greedy generation by one runtime: JSON lines in, JSON lines out, timed the same way for all.

A request is {"prompt": [ids], "new_tokens": N}. Needs nothing but Python and the runtime. The
runtime's module has `load(model, threads)`, which returns a `Generate` (see __init__.py).
"""
# ruff: noqa: E402 - the clock starts before the imports

import time

STARTED = time.perf_counter()

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.peers.run import Generate


def answer(generate: Generate, prompt: list[int], new_tokens: int) -> dict[str, Any]:
    """The new tokens and figures; times in seconds, memory in bytes."""
    received = time.perf_counter()
    tokens, times = list[int](), list[float]()
    for token in generate(prompt, new_tokens):
        times.append(time.perf_counter())
        tokens.append(token)
    if len(tokens) != new_tokens:
        raise RuntimeError(f"{len(tokens)} tokens instead of {new_tokens}")
    return {
        "tokens": tokens,
        "time_to_first_token": times[0] - received,
        "decode_seconds": times[-1] - times[0],  # from the first new token to the last
        "resident_memory": resident_memory(),
        "since_start": times[0] - STARTED,  # from the process's first statement
    }


def resident_memory() -> int:
    """VmRSS, in bytes; it includes the pages of mapped files that were touched."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runtime")
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    module = import_module(f"benchmarks.peers.run.{options.runtime}")
    generate = module.load(options.model, options.threads)
    for line in sys.stdin:
        print(json.dumps(answer(generate, **json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
