"""How our service compares with llama.cpp's server and KerasHub's generate(), on GPT-2 small.

`make bench-cloud` makes what this needs. All servers stay loaded, and one at a time is asked: for 16
answers at once, then for a single one. README.md says more.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
from cloud_sides import GGUF, LLAMA, NEW, PROMPT, SIDES, STREAMS, Ask, Side
from cloud_table import goals, table
from edge_peers import last_line, processor
from edge_sides import LLAMA_CPP, THREADS, is_newer, output

from edgewise_edge.decoding.tokenizer import Tokenizer

HERE = Path(__file__).parent

Prompt = Sequence[int]
Figures = dict[str, list[float]]  # by name, one for each round


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = [side.name for side in SIDES]
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sides", nargs="+", choices=names, default=names, metavar="SIDE")
    options = parser.parse_args()
    work = options.work.resolve()
    sides = [side for side in SIDES if side.name in options.sides]
    prepare(work, sides)
    report(work, asyncio.run(measured(work, sides, options.rounds)))


def prepare(work: Path, sides: Sequence[Side]) -> None:
    """Make the models that are missing or old."""
    work.mkdir(exist_ok=True)
    source = work / "source"
    if not is_newer(source, [HERE / "edge_model.py"]):
        output([sys.executable, HERE / "edge_model.py", source], work)
    for kind, model in GGUF.items():
        if LLAMA[kind] in [side.name for side in sides]:
            model.make(work, source)


async def measured(work: Path, sides: Sequence[Side], rounds: int) -> dict[str, Figures]:
    """Figures by side; "machine" is one of them. Seconds, and tokens or bytes a second."""
    found: dict[str, Figures] = {name: {} for name in (*(side.name for side in sides), "machine")}
    vocabulary = range(Tokenizer.from_folder(work / "source").size)
    async with AsyncExitStack() as running:
        asks = {}
        for side in sides:
            print(f"starting {side.name}", file=sys.stderr, flush=True)
            ask = asks[side.name] = await running.enter_async_context(side.started(work))
            prompts = random_prompts(vocabulary, side.at_once, seed=-1)
            for some in (prompts, prompts[:1]):  # as it will be asked, so that all is warm
                await asked(ask, some)
        for index in range(rounds):
            print(f"round {index + 1} of {rounds}", file=sys.stderr, flush=True)
            alone, *together = random_prompts(vocabulary, 1 + STREAMS, seed=index)
            first = index % len(sides)
            for side in [*sides[first:], *sides[:first]]:
                figures = await turn(asks[side.name], alone, together)
                for figure, value in figures.items():
                    found[side.name].setdefault(figure, []).append(value)
            bandwidth = last_line(output([sys.executable, HERE / "bandwidth.py"], work))
            found["machine"].setdefault("bandwidth", []).append(bandwidth["bytes_per_second"])
    return found


def random_prompts(vocabulary: range, count: int, seed: int) -> list[Prompt]:
    """Prompts that share no beginning, so that no side can spare itself reading them."""
    chance = random.Random(seed)
    return [chance.choices(vocabulary, k=PROMPT) for _ in range(count)]


async def turn(ask: Ask, alone: Prompt, together: Sequence[Prompt]) -> dict[str, float]:
    """One side's figures of a round."""
    streams = await asked(ask, together)
    (single,) = await asked(ask, [alone])
    gaps = [after - before for times in streams for before, after in pairwise(times)]
    firsts = [times[0] for times in streams]
    return {
        "together": len(streams) * NEW / max(times[-1] for times in streams),
        "alone": NEW / single[-1],
        "first p50": float(np.percentile(firsts, 50)),
        "first p99": float(np.percentile(firsts, 99)),
        "gap p50": float(np.percentile(gaps, 50)),
        "gap p99": float(np.percentile(gaps, 99)),
        "gap max": max(gaps),
        "gap alone": statistics.median(after - before for before, after in pairwise(single)),
    }


async def asked(ask: Ask, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Send all at once; for each, seconds from the first one's sending to each of its tokens."""
    started = time.perf_counter()
    streams = await asyncio.gather(*(arrivals(ask, prompt) for prompt in prompts))
    return [[moment - started for moment in times] for times in streams]


async def arrivals(ask: Ask, prompt: Prompt) -> list[float]:
    """When each new token came, on time.perf_counter()'s clock."""
    times: list[float] = []
    async with aclosing(ask(prompt, NEW)) as parts:
        async for tokens in parts:
            times += [time.perf_counter()] * tokens
    if len(times) != NEW:
        message = f"{len(times)} tokens instead of {NEW}"
        raise RuntimeError(message)
    return times


def report(work: Path, found: Mapping[str, Figures]) -> None:
    """Print the tables, then all figures as JSON."""
    medians = {
        name: {figure: statistics.median(values) for figure, values in figures.items()}
        for name, figures in found.items()
    }
    rounds = len(found["machine"]["bandwidth"])
    bandwidth = medians["machine"]["bandwidth"]
    print(
        f"{processor()}, {THREADS} threads, {bandwidth / 1e9:.1f} GB/s; medians of {rounds} rounds;"
        f" {LLAMA_CPP.version(work)}, keras-hub {version('keras-hub')}"
    )
    print(f"\n{table(medians)}\n\n{goals(found)}\n")
    facts = {"processor": processor(), "threads": THREADS, "streams": STREAMS, "rounds": rounds}
    print(json.dumps(facts | {"prompt": PROMPT, "new": NEW, "medians": medians, "raw": found}))


if __name__ == "__main__":
    main()
