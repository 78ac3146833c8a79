"""How our service compares with llama.cpp's server and KerasHub's generate(), on GPT-2 small.

`make bench-cloud` makes what this needs. All servers stay loaded, and one at a time is asked: for 16
answers at once, then for a single one. README.md says more.
"""

import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.metadata import version
from pathlib import Path

import numpy as np

from benchmarks.cloud import servers
from benchmarks.cloud.servers import KERAS, NEW, OURS, OURS_16, PROMPT, STREAMS, Ask, Prompt
from benchmarks.measure import add, arguments, markdown, rotated, text
from benchmarks.peers import workspace
from benchmarks.peers.runtimes import LLAMA_CPP
from benchmarks.peers.workspace import Figures
from edgewise_edge import Tokenizer

_FIGURES = {
    "throughput": (f"{STREAMS} streams", "tokens/s"),
    "single throughput": ("one stream", "tokens/s"),
    "first p50": ("time to first token, p50", "ms"),
    "first p99": ("time to first token, p99", "ms"),
    "gap p50": ("inter-token latency, p50", "ms"),
    "gap p99": ("inter-token latency, p99", "ms"),
    "gap max": ("inter-token latency, max", "ms"),
    "single gap": ("inter-token latency of one stream, p50", "ms"),
}
# Words, server, the server it is compared with and that one's figure, and the ratio it should reach.
_GOALS = (
    ("to one stream", OURS, OURS, "single throughput", 6),
    (f"to {KERAS}", OURS, KERAS, "throughput", 8),
    ("to llama.cpp F32", OURS, "llama.cpp F32", "throughput", 1.2),
    ("to llama.cpp F16", OURS, "llama.cpp F16", "throughput", 1.2),
    ("in bfloat16, to float32", OURS_16, OURS, "throughput", 1.4),
    ("in bfloat16, to llama.cpp BF16", OURS_16, "llama.cpp BF16", "throughput", ""),
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
        "first p50": float(np.percentile(firsts, 50)),
        "first p99": float(np.percentile(firsts, 99)),
        "gap p50": float(np.percentile(between, 50)),
        "gap p99": float(np.percentile(between, 99)),
        "gap max": max(between),
        "single gap": float(np.median(servers.gaps([alone]))),
    }


async def answers(ask: Ask, prompts: Sequence[Prompt]) -> list[list[float]]:
    """Send all at once; for each, seconds from the first one's sending to each of its tokens."""
    started = time.perf_counter()
    streams = await asyncio.gather(*(servers.arrivals(ask, prompt, NEW) for prompt in prompts))
    return [[moment - started for moment in times] for times in streams]


def table(found: Figures) -> str:
    """Every server's figures."""
    head = ["server", *(f"{title}, {unit}" for title, unit in _FIGURES.values())]
    rows = [
        [server] + [_shown(found[server][name], unit) for name, (_, unit) in _FIGURES.items()]
        for server in servers.SERVERS
        if server in found
    ]
    return markdown(head, rows)


def _shown(values: Sequence[float], unit: str) -> str:
    value = statistics.median(values)
    return text(value, unit) if value else ""  # no gaps where all tokens come at once


def ratios(found: Figures) -> str:
    """The median of the rounds' throughput ratios, with the lowest and the highest."""
    rows = []
    for what, ours, other, figure, goal in _GOALS:
        if {ours, other} <= found.keys():
            pairs = zip(found[ours]["throughput"], found[other][figure], strict=True)
            values = [mine / its for mine, its in pairs]
            shown = [statistics.median(values), min(values), max(values)]
            rows.append([f"{STREAMS} streams, {what}", *(f"{ratio:.2f}" for ratio in shown), goal])
    return markdown(["edgewise", "ratio", "lowest round", "highest", "goal"], rows)


if __name__ == "__main__":
    main()
