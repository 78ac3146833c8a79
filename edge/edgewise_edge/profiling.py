"""Measuring a model on this device in a child process: `python -m edgewise_edge.profiling`.

The child prints a line at its first token, from which the parent takes the cold start, and then a
line of JSON with the other fields of a Profile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.sampling_params import SamplingParams
from edgewise_edge.errors import EdgeError, RuntimeFailedError
from edgewise_edge.model import DeviceModel, default_threads
from edgewise_edge.store.manifest import MODEL_FILE

COLD_PROMPT = 32  # tokens
LONG_PROMPT = 512  # tokens, or half the context window
NEW_TOKENS = 64
ROUNDS = 5
BANDWIDTH_BYTES = 256 * 2**20  # larger than the processor's caches
TIMEOUT = 600.0  # seconds


@dataclass(frozen=True, slots=True)
class Run:
    """Medians over rounds. Times in seconds."""

    prompt_tokens: int
    first_token: float
    gap: float  # between tokens of the answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What a model costs on this device. Times in seconds, sizes in bytes."""

    model: str
    threads: int
    cold_start: float  # from process start to the first token after a prompt of 32 tokens
    short: Run
    long: Run
    resident_memory: int  # of the whole process, after the long prompt
    bandwidth: float  # bytes per second that `threads` threads read
    token_bytes: int  # the least that each token must read: the model's file

    @property
    def wall(self) -> float:
        """Tokens per second at most, if reading memory at `bandwidth` were all the work."""
        return self.bandwidth / self.token_bytes


def profile(folder: Path, threads: int | None) -> Profile:
    """Measure the model in `folder`. Raises RuntimeFailedError with the child's error."""
    command = [sys.executable, "-m", "edgewise_edge.profiling", str(folder)]
    command += ["--threads", str(threads)] if threads else []
    # A first run prepares the weights and fills the page cache.
    _finish([*command, "--first-token-only"])
    cold_start, output = _finish(command)
    found = json.loads(output)
    short, long = Run(**found.pop("short")), Run(**found.pop("long"))
    return Profile(**found, short=short, long=long, cold_start=cold_start)


def _finish(command: list[str]) -> tuple[float, str]:
    """Seconds to the first token, and what the child wrote after it."""
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout  # noqa: S101  # asked for above
            process.stdout.readline()
            cold_start = time.perf_counter() - started
            output, errors = process.communicate(timeout=TIMEOUT)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        reason = errors.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise RuntimeFailedError(f"measuring failed: {reason[0]}")
    return cold_start, output


def _measure(folder: Path, threads: int, *, first_token_only: bool) -> None:
    model = DeviceModel.load(folder, threads=threads, prefix_memory=0)
    window = model.manifest.architecture.context_window
    short = min(COLD_PROMPT, window // 4)
    _run(model, short, 1)
    print("first token", flush=True)
    if first_token_only:
        return
    lengths = {"short": short, "long": min(LONG_PROMPT, window // 2)}
    rounds = [
        {name: _run(model, length, NEW_TOKENS) for name, length in lengths.items()}
        for _ in range(ROUNDS)
    ]
    found: dict[str, Any] = {
        name: asdict(
            Run(
                length,
                statistics.median(run[name].first_token for run in rounds),
                statistics.median(run[name].gap for run in rounds),
            )
        )
        for name, length in lengths.items()
    }
    import psutil

    found["resident_memory"] = psutil.Process().memory_info().rss
    found["bandwidth"] = read_bandwidth(threads)
    found["token_bytes"] = model.manifest.files[MODEL_FILE].size
    print(json.dumps(found | {"model": model.manifest.name, "threads": threads}))


def _run(model: DeviceModel, prompt_tokens: int, new_tokens: int) -> Run:
    """One greedy answer to a random prompt."""
    shape = model.manifest.architecture
    new_tokens = max(2, min(new_tokens, shape.context_window - prompt_tokens))
    prompt = np.random.default_rng(0).integers(0, shape.vocabulary_size, prompt_tokens)
    request = TokenRequest(
        token_ids=tuple(prompt.tolist()),
        prompt_tokens=prompt_tokens,
        max_tokens=new_tokens,
        sampling=SamplingParams(temperature=0),
    )
    started = time.perf_counter()
    times = [time.perf_counter() for _ in model.stream_tokens(request)]
    return Run(prompt_tokens, times[0] - started, (times[-1] - times[0]) / (len(times) - 1))


def read_bandwidth(threads: int) -> float:
    """Bytes per second that `threads` threads together read from memory; the median of nine."""
    memory = np.ones(BANDWIDTH_BYTES // 4, np.float32)
    parts = np.array_split(memory, threads)
    with ThreadPoolExecutor(threads) as pool:

        def seconds() -> float:
            started = time.perf_counter()
            list(pool.map(lambda part: np.dot(part, part), parts))
            return time.perf_counter() - started

        return memory.nbytes / statistics.median(seconds() for _ in range(9))


if __name__ == "__main__":
    # Several threads read at once; each must not start more through NumPy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--first-token-only", action="store_true")
    options = parser.parse_args()
    try:
        _measure(options.folder, options.threads, first_token_only=options.first_token_only)
    except EdgeError as error:
        sys.exit(str(error))
