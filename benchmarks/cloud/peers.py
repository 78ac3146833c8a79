"""How our service compares with llama.cpp's server and KerasHub's generate(), on GPT-2 small.

`make bench-cloud` makes what this needs. All servers stay loaded, and one at a time is asked: for 16
answers at once, then for a single one. README.md says more.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.cloud.servers import (
    GGUF,
    KERAS,
    NEW,
    PROMPT,
    SERVERS,
    STREAMS,
    Ask,
    Prompt,
    arrivals,
    gaps,
    random_prompts,
)
from benchmarks.cloud.table import Figures, ratios, table
from benchmarks.measure import add, arguments, medians
from benchmarks.peers.runtimes import LLAMA_CPP
from benchmarks.peers.workspace import THREADS, WORK, bandwidth, checkpoint, processor
from edgewise_edge import Tokenizer


def main() -> None:
    parser = arguments(__doc__, work=WORK, rounds=5)
    names = list(SERVERS)
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER")
    options = parser.parse_args()
    work = options.work.resolve()
    names = [name for name in names if name in options.peers]
    source = checkpoint(work)
    for name in set(names) & GGUF.keys():
        GGUF[name].make(work, source)
    report(work, asyncio.run(measured(work, names, options.rounds)), options.rounds)


async def measured(work: Path, names: Sequence[str], rounds: int) -> Figures:
    """Figures by server, and those of the "machine". Seconds, and tokens or bytes a second."""
    found: Figures = {name: {} for name in (*names, "machine")}
    vocabulary = range(Tokenizer.from_folder(work / "source").size)
    async with AsyncExitStack() as running:
        asks = {}
        for name in names:
            print(f"starting {name}", file=sys.stderr, flush=True)
            asks[name] = await running.enter_async_context(SERVERS[name](work))
            prompts = random_prompts(vocabulary, 1 if name == KERAS else STREAMS, seed=-1)
            for some in (prompts, prompts[:1]):  # a warm-up as it will be asked
                await answers(asks[name], some)
        for index in range(rounds):
            print(f"round {index + 1} of {rounds}", file=sys.stderr, flush=True)
            single, *batch = random_prompts(vocabulary, 1 + STREAMS, seed=index)
            first = index % len(names)
            for name in [*names[first:], *names[:first]]:
                add(found[name], await one_turn(asks[name], single, batch))
            add(found["machine"], {"bandwidth": bandwidth(work)})
    return found


async def one_turn(ask: Ask, single: Prompt, batch: Sequence[Prompt]) -> dict[str, float]:
    """One server's figures of a round."""
    streams = await answers(ask, batch)
    (alone,) = await answers(ask, [single])
    firsts, between = [times[0] for times in streams], gaps(streams)
    return {
        "throughput": len(streams) * NEW / max(times[-1] for times in streams),
        "single throughput": NEW / alone[-1],
        "first p50": float(np.percentile(firsts, 50)),
        "first p99": float(np.percentile(firsts, 99)),
        "gap p50": float(np.percentile(between, 50)),
        "gap p99": float(np.percentile(between, 99)),
        "gap max": max(between),
        "single gap": float(np.median(gaps([alone]))),
    }


async def answers(ask: Ask, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Send all at once; for each, seconds from the first one's sending to each of its tokens."""
    started = time.perf_counter()
    streams = await asyncio.gather(*(arrivals(ask, prompt, NEW) for prompt in prompts))
    return [[moment - started for moment in times] for times in streams]


def report(work: Path, found: Figures, rounds: int) -> None:
    middle = {name: medians(figures) for name, figures in found.items()}
    read = middle["machine"]["bandwidth"] / 1e9
    print(
        f"{processor()}, {THREADS} threads, {read:.1f} GB/s; medians of {rounds} rounds;"
        f" {LLAMA_CPP.version(work)}, keras-hub {version('keras-hub')}"
    )
    print(f"\n{table(middle)}\n\n{ratios(found)}\n")
    facts = {"processor": processor(), "threads": THREADS, "streams": STREAMS, "rounds": rounds}
    print(json.dumps(facts | {"prompt": PROMPT, "new": NEW, "medians": middle, "raw": found}))


if __name__ == "__main__":
    main()
