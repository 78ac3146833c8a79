"""What the attention kernel gives: steps of one model with it and with builtin ops, in turn.

The model folder is one of `edgewise-cloud convert`, of GPT-2 small's size for docs/edge.md's table. Both
are in one process, so that what else the machine does slows both alike.
"""

import random
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.measure import arguments, in_turn, markdown, text
from benchmarks.peers.runtimes import CASES
from edgewise_edge import Manifest
from edgewise_edge.runtime.litert import CompiledBackend, attention_ops
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE


@dataclass(frozen=True, slots=True)
class Times:
    """In seconds."""

    first: float  # of the prompt
    token: float  # the median of those after it


def main() -> None:
    options = arguments(__doc__, "model", threads=2, rounds=5, tokens=48).parse_args()
    runtimes = {
        "builtin": load(options.model, options.threads, fused=False),
        "kernel": load(options.model, options.threads, fused=True),
    }
    longest = Manifest.read(options.model).architecture.context_window - options.tokens
    prompts = list(dict.fromkeys(min(prompt, longest) for prompt, _ in CASES))
    times = {
        (name, prompt): answer(runtime, prompt, options.tokens)
        for prompt in prompts
        for name, runtime in runtimes.items()
    }
    found = in_turn(times, options.rounds)
    head = ["ms", *(f"{kind} {prompt}" for kind in ("first", "token") for prompt in prompts)]
    rows = []
    for name, runtime in runtimes.items():
        runs = [found[name, prompt] for prompt in prompts]
        firsts = (spread([run.first for run in each]) for each in runs)
        rows.append([name, *firsts, *(spread([run.token for run in each]) for each in runs)])
        print(f"{name}: {runtime.bytes_per_token:,} bytes of cache a token", file=sys.stderr)
    print(markdown(head, rows))


def load(folder: Path, threads: int, *, fused: bool) -> Runtime:
    shape = Manifest.read(folder).architecture
    with attention_ops(threads) as ops:
        if not ops:
            sys.exit("the attention kernel is not installed here")
        backend = CompiledBackend(folder / MODEL_FILE, threads, None, ops if fused else ())
        return Runtime(backend, shape)


def answer(runtime: Runtime, prompt: int, tokens: int) -> Callable[[], Times]:
    """A run: a prompt of random tokens, and the likeliest ones after it."""
    ids = random.Random(1).choices(range(runtime.architecture.vocabulary_size), k=prompt)

    def run() -> Times:
        session, seconds = runtime.session(), []
        started = time.perf_counter()
        for start in range(0, prompt, runtime.chunk):
            logits = session.forward(ids[start : start + runtime.chunk])
        first = time.perf_counter() - started
        for _ in range(tokens):
            started = time.perf_counter()
            logits = session.forward([int(logits.argmax())])
            seconds.append(time.perf_counter() - started)
        return Times(first, median(seconds))

    return run


def spread(values: list[float]) -> str:
    """The median, and the fastest and slowest round."""
    least, middle, most = (text(f(values), "ms") for f in (min, median, max))
    return f"{middle} ({least} to {most})"


if __name__ == "__main__":
    main()
