"""How our edge runtime compares with llama.cpp and ONNX Runtime, on GPT-2 small.

`make bench-edge` makes the environments that this needs. In each round each peer runs alone: several
processes at once distort each other. README.md says more.
"""

import os
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.measure import add, arguments, markdown, medians, rotated, text
from benchmarks.peers import workspace
from benchmarks.peers.runtimes import CASES, OURS, PEERS, RUNTIMES, Peer, worker
from benchmarks.peers.workspace import Figures
from edgewise_edge import Manifest
from edgewise_edge.runtime.kv_cache import bytes_per_token

Medians = Mapping[str, Mapping[str, float]]  # seconds, bytes, shares

CASE_FIGURES = [f"{kind} {prompt}+{new}" for kind in ("token", "first") for prompt, new in CASES]
FIGURES = dict.fromkeys((*CASE_FIGURES, "cold start"), "ms") | {"memory": "MB"}
OURS_ONLY = {"share of the roofline": "%", "own cost of a token": "µs", "own cost, of a step": "%"}


def main() -> None:
    options = arguments(__doc__, work=workspace.WORK, rounds=6).parse_args()
    work = options.work.resolve()
    prepare(work)
    found: Figures = {name: {} for name in (*(peer.name for peer in PEERS), "machine")}
    for index, peers in enumerate(rotated(PEERS, options.rounds)):
        for name, figures in one_round(work, peers, index).items():
            add(found[name], figures)
    middle = {name: medians(figures) for name, figures in found.items()}
    sizes = {peer.name: peer.bytes(work) for peer in PEERS}
    versions = ", ".join(runtime.version(work) for runtime in RUNTIMES)
    tables = [table(middle, sizes), ratios(middle), only_ours(middle)]
    workspace.report(found, versions, tables, model_bytes=sizes)


def prepare(work: Path) -> None:
    """Make what is missing or old, and bring all files into the page cache in the same way."""
    source = workspace.checkpoint(work)
    for peer in PEERS:
        peer.make(work, source)
    for peer in OURS.values():
        with worker(peer, work) as ask:
            ask([0], 1)  # makes the file of prepared weights
    for file in [*workspace.files(work / "models"), *workspace.files(work / "cache")]:
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


def one_round(work: Path, peers: Sequence[Peer], index: int) -> dict[str, dict[str, float]]:
    """Figures by peer, and those of the "machine". Seconds and bytes."""
    vocabulary = range(Manifest.read(OURS[8].path(work)).architecture.vocabulary_size)
    chance = random.Random(index)
    prompts = {length: chance.choices(vocabulary, k=length) for length, _ in CASES}
    found = {peer.name: speed(peer, work, prompts) | start(peer, work, prompts) for peer in peers}
    read = workspace.bandwidth(work)
    found["machine"] = {"bandwidth": read}
    for peer in OURS.values():
        overhead = [sys.executable, "-m", "benchmarks.edge.overhead", peer.path(work)]
        own = workspace.last_line(overhead, work)
        roofline = token_bytes(peer, work) / read / found[peer.name]["token 32+128"]
        found[peer.name] |= zip(OURS_ONLY, (roofline, own["own"], own["share"]), strict=True)
    return found


def speed(peer: Peer, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """The cases in one process: seconds to the first token, and for each one after it."""
    figures = {}
    with worker(peer, work) as ask:
        # A warm-up that needs as much memory as any, and whose cache helps none.
        ask(prompts[max(prompts)][::-1], 8)
        for prompt, new in CASES:
            answer = ask(prompts[prompt], new)
            figures[f"first {prompt}+{new}"] = answer["time_to_first_token"]
            figures[f"token {prompt}+{new}"] = answer["decode_seconds"] / (new - 1)
    return figures


def start(peer: Peer, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """Seconds to the first token of a fresh process, and the memory it holds after 512+128."""
    with worker(peer, work) as ask:
        cold = ask(prompts[32], 1)["since_start"]
        return {"cold start": cold, "memory": ask(prompts[512], 128)["resident_memory"]}


def token_bytes(peer: Peer, work: Path) -> float:
    """Bytes our runtime must read for a token at 32+128: the weights, and the mean cache rows."""
    shape = Manifest.read(peer.path(work)).architecture
    weights = peer.bytes(work) - shape.context_window * shape.width * peer.bits / 8  # positions
    return weights + bytes_per_token(shape, np.float16) * (32 + 128 / 2)


def table(medians: Medians, sizes: Mapping[str, int]) -> str:
    """Every peer's figures; `sizes` are its model's bytes."""
    head = ["peer", "model, MB", *(f"{figure}, {unit}" for figure, unit in FIGURES.items())]
    rows = [
        [peer.name, text(sizes[peer.name], "MB")]
        + [text(medians[peer.name][figure], unit) for figure, unit in FIGURES.items()]
        for peer in PEERS
    ]
    return markdown(head, rows)


def ratios(medians: Medians) -> str:
    """Each peer's figures over ours with as many bits: above 1, it needs more than we do."""
    rows = []
    for peer in PEERS:
        ours, its = medians[OURS[peer.bits].name], medians[peer.name]
        if peer is not OURS[peer.bits]:
            rows.append([peer.name, *(f"{its[figure] / ours[figure]:.2f}" for figure in FIGURES)])
    return markdown(["its / ours", *FIGURES], rows)


def only_ours(medians: Medians) -> str:
    """What is measured of our runtime alone."""
    rows = [
        [figure, *(text(medians[peer.name][figure], unit) for peer in OURS.values())]
        for figure, unit in OURS_ONLY.items()
    ]
    return markdown(["edgewise only", *(f"{bits} bits" for bits in OURS)], rows)


if __name__ == "__main__":
    main()
