"""How our edge runtime compares with llama.cpp, ONNX Runtime and CTranslate2, on GPT-2 small.

`make bench-edge` makes the environments that this needs. In each round each peer runs alone: several
processes at once distort each other. README.md says more.
"""

import json
import os
import random
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.edge.table import Figures, ratios, table
from benchmarks.measure import add, arguments, medians
from benchmarks.peers.runtimes import CASES, OURS, PEERS, RUNTIMES, Peer, Worker
from benchmarks.peers.workspace import (
    THREADS,
    WORK,
    bandwidth,
    checkpoint,
    files,
    last_line,
    processor,
)
from edgewise_edge import Manifest
from edgewise_edge.runtime.kv_cache import row_bytes

LONGEST = max(prompt for prompt, _ in CASES)


def main() -> None:
    options = arguments(__doc__, work=WORK, rounds=6).parse_args()
    work = options.work.resolve()
    prepare(work)
    found: Figures = {name: {} for name in (*(peer.name for peer in PEERS), "machine")}
    for index in range(options.rounds):
        print(f"round {index + 1} of {options.rounds}", file=sys.stderr, flush=True)
        for name, figures in one_round(work, index).items():
            add(found[name], figures)
    report(work, found, options.rounds)


def prepare(work: Path) -> None:
    """Make what is missing or old, and bring all files into the page cache in the same way."""
    source = checkpoint(work)
    for peer in PEERS:
        peer.make(work, source)
    for peer in OURS.values():
        with Worker(peer, work) as worker:
            worker.ask([0], 1)  # makes the file of prepared weights
    for file in [*files(work / "models"), *files(work / "cache")]:
        reload(file)


def reload(file: Path) -> None:
    """Drop a file from the page cache and read it again, as after a restart of the machine.

    How much of a mapped file counts as resident depends on how its pages came into the cache.
    """
    with file.open("rb", buffering=0) as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while opened.read(2**20):
            pass


def one_round(work: Path, index: int) -> dict[str, dict[str, float]]:
    """Figures by peer, and those of the "machine". Seconds and bytes."""
    vocabulary = range(Manifest.read(OURS[8].path(work)).architecture.vocabulary_size)
    chance = random.Random(index)
    prompts = {length: chance.choices(vocabulary, k=length) for length, _ in CASES}
    first = index % len(PEERS)
    found = {
        peer.name: speed(peer, work, prompts) | start(peer, work, prompts)
        for peer in PEERS[first:] + PEERS[:first]
    }
    read = bandwidth(work)
    found["machine"] = {"bytes per second": read}
    for peer in OURS.values():
        overhead = [sys.executable, "-m", "benchmarks.edge.overhead", peer.path(work)]
        own = last_line(overhead, work)
        roofline = token_bytes(peer, work) / read
        found[peer.name] |= {"own cost": own["own"], "own share": own["share"]}
        found[peer.name]["roofline share"] = roofline / found[peer.name]["token 32+128"]
    return found


def speed(peer: Peer, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """The cases in one process: seconds to the first token, and for each one after it."""
    figures = {}
    with Worker(peer, work) as worker:
        worker.ask(prompts[LONGEST], 8)  # a warm-up that needs as much memory as any
        for prompt, new in CASES:
            answer = worker.ask(prompts[prompt], new)
            figures[f"first {prompt}+{new}"] = answer["time_to_first_token"]
            figures[f"token {prompt}+{new}"] = answer["decode_seconds"] / (new - 1)
    return figures


def start(peer: Peer, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """Seconds to the first token of a fresh process, and the memory it holds after 512+128."""
    with Worker(peer, work) as worker:
        cold = worker.ask(prompts[32], 1)["since_start"]
        return {"cold start": cold, "memory": worker.ask(prompts[512], 128)["resident_memory"]}


def token_bytes(peer: Peer, work: Path) -> float:
    """Bytes our runtime must read for a token at 32+128: the weights, and the mean cache rows."""
    shape = Manifest.read(peer.path(work)).architecture
    weights = peer.bytes(work) - shape.context_window * shape.width * peer.bits / 8  # positions
    return weights + row_bytes(shape) * (32 + 128 / 2)


def report(work: Path, found: Figures, rounds: int) -> None:
    middle = {name: medians(figures) for name, figures in found.items()}
    sizes = {peer.name: peer.bytes(work) for peer in PEERS}
    versions = [runtime.version(work) for runtime in RUNTIMES]
    read = middle["machine"]["bytes per second"] / 1e9
    print(f"{processor()}, {THREADS} threads, {read:.1f} GB/s; medians of {rounds} rounds;")
    print(f"{', '.join(versions)}\n\n{table(middle, sizes)}\n\n{ratios(middle)}\n")
    facts = {"processor": processor(), "threads": THREADS, "versions": versions, "rounds": rounds}
    print(json.dumps(facts | {"model_bytes": sizes, "medians": middle, "raw": found}))


if __name__ == "__main__":
    main()
