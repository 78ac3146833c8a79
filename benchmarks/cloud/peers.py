"""How our service compares with llama.cpp's server and KerasHub's generate(), on GPT-2 small.

`make bench-cloud` makes what this needs. All servers stay loaded, and one at a time is asked: for 16
answers at once, then for a single one. docs/benchmarks.md says more.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

from benchmarks.cloud import servers
from benchmarks.cloud.servers import (
    KERAS,
    NEW,
    OURS,
    OURS_IN_8_BITS,
    PROMPT,
    STREAMS,
    Ask,
    Prompt,
)
from benchmarks.measure import add, arguments, markdown, medians, rotated, text
from benchmarks.peers import workspace
from benchmarks.peers.runtimes import LLAMA_CPP
from benchmarks.peers.workspace import Figures
from edgewise_edge import Tokenizer

_LATENCIES = ("first p50", "first p99", "gap p50", "gap p99", "gap max", "single gap")
_FIGURES = {"throughput": "tokens/s", "single throughput": "tokens/s"}
_FIGURES |= dict.fromkeys(_LATENCIES, "ms")
# A throughput of ours is compared with a figure of a server, and the ratio should reach a goal.
_GOALS = (
    (OURS, "to one stream", OURS, "single throughput", 6),
    (OURS, f"to {KERAS}", KERAS, "throughput", 8),
    (OURS, "to llama.cpp F32", "llama.cpp F32", "throughput", 1.2),
    (OURS, "to llama.cpp F16", "llama.cpp F16", "throughput", 1.2),
    (OURS_IN_8_BITS, f"to {OURS}", OURS, "throughput", 2.5),
    (OURS_IN_8_BITS, "to llama.cpp Q8_0", "llama.cpp Q8_0", "throughput", 1.5),
)


def main() -> None:
    parser = arguments(__doc__, work=workspace.WORK, rounds=5)
    names = list(servers.SERVERS)
    parser.add_argument("--peers", nargs="+", choices=names, default=names, metavar="PEER")
    options = parser.parse_args()
    work = options.work.resolve()
    names = [name for name in names if name in options.peers]
    source = workspace.checkpoint(work)
    for name in set(names) & servers.GGUF.keys():
        servers.GGUF[name].make(work, source)
    found = asyncio.run(measured(work, names, options.rounds))
    versions = f"keras-hub {version('keras-hub')}"
    if set(names) & servers.GGUF.keys():
        versions += f", {LLAMA_CPP.version(work)}"
    facts = {"streams": STREAMS, "prompt": PROMPT, "new": NEW}
    workspace.report(found, versions, [table(found), ratios(found)], **facts)


async def measured(work: Path, names: Sequence[str], rounds: int) -> Figures:
    """Figures by server, and those of the "machine". Seconds, and tokens or bytes a second."""
    found: Figures = {name: {} for name in (*names, "machine")}
    vocabulary = range(Tokenizer.from_folder(work / "source").size)
    async with AsyncExitStack() as running:
        asks = {}
        for name in names:
            print(f"starting {name}", file=sys.stderr, flush=True)
            asks[name] = await running.enter_async_context(servers.SERVERS[name](work))
            prompts = servers.random_prompts(vocabulary, 1 if name == KERAS else STREAMS, seed=-1)
            for some in (prompts, prompts[:1]):  # a warm-up as it will be asked
                await answers(asks[name], some)
        for index, order in enumerate(rotated(names, rounds)):
            single, *batch = servers.random_prompts(vocabulary, 1 + STREAMS, seed=index)
            for name in order:
                add(found[name], await one_turn(asks[name], single, batch))
            add(found["machine"], {"bandwidth": workspace.bandwidth(work)})
    return found


async def one_turn(ask: Ask, single: Prompt, batch: Sequence[Prompt]) -> dict[str, float]:
    """One server's figures of a round."""
    streams = await answers(ask, batch)
    (alone,) = await answers(ask, [single])
    firsts, between = [times[0] for times in streams], servers.gaps(streams)
    return {
        "throughput": len(streams) * NEW / max(times[-1] for times in streams),
        "single throughput": NEW / alone[-1],
        **servers.percentiles("first", firsts),
        **servers.percentiles("gap", between),
        "gap max": max(between),
        "single gap": statistics.median(servers.gaps([alone])),
    }


async def answers(ask: Ask, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Send all at once; for each, seconds from the first one's sending to each of its tokens."""
    started = time.perf_counter()
    streams = await asyncio.gather(*(servers.arrivals(ask, prompt, NEW) for prompt in prompts))
    return [[moment - started for moment in times] for times in streams]


def table(found: Figures) -> str:
    """Every server's figures; no gaps where all tokens come at once."""
    rows = []
    for name in (name for name in found if name != "machine"):
        middle = medians(found[name])
        shown = [
            text(middle[figure], unit) if middle.get(figure) else ""
            for figure, unit in _FIGURES.items()
        ]
        rows.append([name, *shown])
    return markdown(["server", *(f"{figure}, {unit}" for figure, unit in _FIGURES.items())], rows)


def ratios(found: Figures) -> str:
    """The median of the rounds' throughput ratios, with the lowest and the highest."""
    rows = []
    for ours, what, other, figure, goal in _GOALS:
        if {ours, other} <= found.keys():
            pairs = zip(found[ours]["throughput"], found[other][figure], strict=True)
            values = [mine / its for mine, its in pairs]
            shown = [statistics.median(values), min(values), max(values)]
            texts = [f"{ratio:.2f}" for ratio in shown]
            rows.append([f"{ours}, {STREAMS} streams, {what}", *texts, goal])
    return markdown(["", "ratio", "lowest round", "highest", "goal"], rows)


if __name__ == "__main__":
    main()
