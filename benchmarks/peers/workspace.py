"""The work folder (.bench): the peers' environments, models/, our prepared weights in cache/."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import medians

ROOT = Path(__file__).parents[2]
WORK = ROOT / ".bench"
THREADS = 2

Figures = dict[str, dict[str, list[float]]]  # by peer and figure, one for each round


def checkpoint(work: Path) -> Path:
    """The random GPT-2 small that all models are made from; made unless it is there."""
    work.mkdir(exist_ok=True)
    folder, module = work / "source", "benchmarks.peers.random_gpt2"
    if not is_newer(folder, [Path(__file__).with_name("random_gpt2.py")]):
        output([sys.executable, "-m", module, folder], work)
    return folder


def output(command: Sequence[object], work: Path) -> str:
    """What a command prints; its standard error goes to log.txt in the work folder.

    Raises subprocess.CalledProcessError.
    """
    with (work / "log.txt").open("ab") as log:
        done = subprocess.run(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            check=True,
            cwd=ROOT,
            env=environment(work),
        )
    return done.stdout


def last_line(command: Sequence[object], work: Path) -> Any:
    """The JSON that a command ends in."""
    return json.loads(output(command, work).splitlines()[-1])


def environment(work: Path) -> dict[str, str]:
    """The variables of all processes: our prepared weights are kept in the work folder."""
    # Bytecode is kept, as it is by default.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"XDG_CACHE_HOME": str(work / "cache")}


def files(folder: Path) -> list[Path]:
    """All files in a folder; none if there is no such folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def is_newer(folder: Path, inputs: Iterable[Path]) -> bool:
    """Whether there are files in a folder, and all that they are made from is older."""
    made = [path.stat().st_mtime for path in files(folder)]
    return bool(made) and max(made) > max(path.stat().st_mtime for path in inputs)


def bandwidth(work: Path) -> float:
    """Bytes a second that THREADS threads read from memory, in a fresh process."""
    code = f"from edgewise_edge.profiling import read_bandwidth; print(read_bandwidth({THREADS}))"
    single = ["env", "OPENBLAS_NUM_THREADS=1"]  # the threads are read_bandwidth's own
    found: float = last_line([*single, sys.executable, "-c", code], work)
    return found


def report(found: Figures, versions: str, tables: Sequence[str], **facts: object) -> None:
    """Print the tables, then all figures as JSON. `found` has the bandwidth of the "machine"."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    name = info.partition("model name")[2].partition("\n")[0].lstrip("\t: ") or platform.machine()
    middle = {peer: medians(figures) for peer, figures in found.items()}
    rounds, gigabytes = len(found["machine"]["bandwidth"]), middle["machine"]["bandwidth"] / 1e9
    print(f"{name}, {THREADS} threads, {gigabytes:.1f} GB/s; {versions};")
    print(f"medians of {rounds} rounds", *tables, sep="\n\n", end="\n\n")
    facts |= {"processor": name, "threads": THREADS, "versions": versions, "rounds": rounds}
    print(json.dumps(facts | {"medians": middle, "raw": found}))
