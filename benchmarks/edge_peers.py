"""How our edge runtime compares with llama.cpp, ONNX Runtime and CTranslate2, on GPT-2 small.

`make bench-edge` makes the environments that this needs. In each round each side runs by itself:
several processes alive at once distort each other. README.md says more.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path

from edge_sides import CASES, OURS, RUNTIMES, SIDES, THREADS, Process, Side, files, is_newer, output
from edge_table import goals, table

from edgewise_edge.runtime.kv_cache import row_bytes
from edgewise_edge.store.manifest import Manifest

HERE = Path(__file__).parent
LONGEST = max(prompt for prompt, _ in CASES)

Figures = dict[str, list[float]]  # by name, one for each round


def main() -> None:
    """Prepare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=HERE.parent / ".bench")
    parser.add_argument("--rounds", type=int, default=6)
    options = parser.parse_args()
    work = options.work.resolve()
    prepare(work)
    found: dict[str, Figures] = {name: {} for name in (*(side.name for side in SIDES), "machine")}
    for index in range(options.rounds):
        print(f"round {index + 1} of {options.rounds}", file=sys.stderr, flush=True)
        for name, figures in one_round(work, index).items():
            for figure, value in figures.items():
                found[name].setdefault(figure, []).append(value)
    report(work, found)


def prepare(work: Path) -> None:
    """Make what is missing or old, and let all files lie in memory in the same way."""
    work.mkdir(exist_ok=True)
    source = work / "source"
    if not is_newer(source, [HERE / "edge_model.py"]):
        output([sys.executable, HERE / "edge_model.py", source], work)
    for side in SIDES:
        side.make(work, source)
    for side in OURS.values():
        with Process(side, work) as process:
            process.ask([0], 1)  # makes the file of prepared weights
    for file in [*files(work / "models"), *files(work / "cache")]:
        read_anew(file)


def read_anew(file: Path) -> None:
    """Drop a file from the page cache and read it again, as after a restart of the machine.

    Which pages a process that maps it seems to hold depends on how they came into the cache.
    """
    with file.open("rb", buffering=0) as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while opened.read(2**20):
            pass


def one_round(work: Path, index: int) -> dict[str, dict[str, float]]:
    """Figures by side; "machine" is one of them. Seconds and bytes."""
    vocabulary = range(Manifest.read(OURS[8].path(work)).architecture.vocabulary_size)
    chance = random.Random(index)
    prompts = {length: chance.choices(vocabulary, k=length) for length, _ in CASES}
    found = {}
    first = index % len(SIDES)
    for side in SIDES[first:] + SIDES[:first]:
        found[side.name] = speed(side, work, prompts) | start(side, work, prompts)
    bandwidth = last_line(output([sys.executable, HERE / "bandwidth.py"], work))
    found["machine"] = {"bytes per second": bandwidth["bytes_per_second"]}
    for side in OURS.values():
        own = last_line(output([sys.executable, HERE / "own_cost.py", side.path(work)], work))
        wall = token_bytes(side, work) / bandwidth["bytes_per_second"]
        found[side.name] |= {"own cost": own["own"], "own share": own["share"]}
        found[side.name]["wall share"] = wall / found[side.name]["token 32+128"]
    return found


def speed(side: Side, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """The cases in one process: seconds to the first token, and for each one after it."""
    figures = {}
    with Process(side, work) as process:
        process.ask(prompts[LONGEST], 8)  # a warm-up that needs as much memory as any
        for prompt, new in CASES:
            answer = process.ask(prompts[prompt], new)
            figures[f"first {prompt}+{new}"] = answer["time_to_first_token"]
            figures[f"token {prompt}+{new}"] = answer["decode_seconds"] / (new - 1)
    return figures


def start(side: Side, work: Path, prompts: Mapping[int, list[int]]) -> dict[str, float]:
    """Seconds to the first token of a fresh process, and the memory it holds after 512+128."""
    with Process(side, work) as process:
        cold = process.ask(prompts[32], 1)["since_start"]
        return {"cold start": cold, "memory": process.ask(prompts[512], 128)["resident_memory"]}


def token_bytes(side: Side, work: Path) -> float:
    """What our runtime must read for a token at 32+128, in bytes: the weights, and the cache's rows
    on average.
    """
    shape = Manifest.read(side.path(work)).architecture
    weights = side.bytes(work) - shape.context_window * shape.width * side.bits / 8  # positions
    return weights + row_bytes(shape) * (32 + 128 / 2)


def last_line(text: str) -> dict[str, float]:
    """The JSON that a benchmark ends in."""
    figures: dict[str, float] = json.loads(text.splitlines()[-1])
    return figures


def report(work: Path, found: Mapping[str, Figures]) -> None:
    """Print the tables, then all figures as JSON."""
    medians = {
        name: {figure: statistics.median(values) for figure, values in figures.items()}
        for name, figures in found.items()
    }
    sizes = {side.name: side.bytes(work) for side in SIDES}
    versions = [runtime.version(work) for runtime in RUNTIMES]
    rounds = len(found["machine"]["bytes per second"])
    bandwidth = medians["machine"]["bytes per second"]
    print(
        f"{processor()}, {THREADS} threads, {bandwidth / 1e9:.1f} GB/s; medians of {rounds} rounds;"
    )
    print(", ".join(versions))
    print(f"\n{table(medians, sizes)}\n\n{goals(medians)}\n")
    facts = {"processor": processor(), "threads": THREADS, "versions": versions, "rounds": rounds}
    print(json.dumps(facts | {"model_bytes": sizes, "medians": medians, "raw": found}))


def processor() -> str:
    """Its name, as the system has it."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
