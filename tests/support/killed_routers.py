"""A router that takes a staged revision, killed at steps on disk that this takes.

    python -m tests.support.killed_routers FOLDER EVERY

It is killed at one of EVERY steps. After each kill the next router must answer, with the new revision
or the one before. A revision over which a process has died before its first token is not used again;
a death after it is remembered, and the revision stays. Prints the number of kills.
"""

import itertools
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from edgewise import DeviceState, LatencyLog, Router
from edgewise_edge import trial
from edgewise_edge.installed.store import ModelStore
from tests.support.installed_models import install_tales, is_whole
from tests.support.interruptions import interrupt
from tests.support.published_models import tuned


def main(folder: Path, every: int) -> int:
    """The number of kills."""
    prepared, root = ModelStore(folder / "prepared"), folder / "store"
    for revision in ("one", "two"):
        install_tales(prepared, revision, tuned(len(revision)))
        prepared.stage("tales", revision)
        if revision == "one":
            prepared.take_staged("tales", generations=1)
            prepared.generation_ended("tales", ok=True)
    in_child(lambda: use(folder / "prepared-copy", prepared.root))  # what is only made once
    for kills, step in enumerate(itertools.count(1, every)):
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(prepared.root, root, copy_function=os.link)
        status = in_child(lambda at=step: use_until(root, at))  # type: ignore[misc]
        store = ModelStore(root)
        assert is_whole(store.active_folder("tales") or root), f"step {step}"
        state = store.state("tales")
        assert state.active in {"one", "two"}, f"step {step}: {state}"
        assert in_child(lambda: use(root)) == 0, f"step {step}: the next router did not answer"
        after = ModelStore(root).state("tales")
        assert after.active == ("one" if after.failed else "two"), f"step {step}: {after}"
        if status == 0:
            assert not after.failed
            return kills
        assert status == -signal.SIGKILL, f"step {step}: {status}"
    raise AssertionError


def use(root: Path, copy_of: Path | None = None) -> None:
    """A router's whole life."""
    if copy_of:
        shutil.copytree(copy_of, root, copy_function=os.link)
    device = DeviceState(available_memory=10**10)
    with Router(
        store=root, threads=1, device=lambda: device, latency=LatencyLog(), offline=True
    ) as router:
        assert router.generate("Once upon a time", max_tokens=2).usage.completion_tokens == 2


def use_until(root: Path, step: int) -> None:
    """The same, killed at that step."""
    steps = interrupt(step, "killed")
    use(root)
    assert steps() < step


def in_child(work: Callable[[], None]) -> int:
    """Its exit status, negative for a signal: this process stays without the runtime's threads."""
    if (process := os.fork()) == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


if __name__ == "__main__":
    os.fsync = lambda _: None  # the page cache survives a kill
    trial._try = lambda *_: 0  # takes a process each time
    print("kills", main(Path(sys.argv[1]), int(sys.argv[2])))
