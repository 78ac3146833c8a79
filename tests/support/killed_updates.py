"""An update that is killed (SIGKILL) at each of its steps on disk, in a process of its own.

    python -m tests.support.killed_updates ADDRESS ROOT.JSON STORE STEP...

Each step is the number of a call of `os` that changes the disk, before which a child is killed. Prints
a line of JSON for each: the calls that it made. The last child is not killed.
"""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgewise.delivery.catalog import open_catalog, trust
from edgewise.delivery.fetch import http
from edgewise.delivery.update import Updater
from edgewise_edge.installed.store import ModelStore
from tests.support.interruptions import STEPS, STEPS_THAT_FREE

NAME = "story"
IMPORTED = trust, http  # before the children: each would take its time for it


def kill_updates(address: str, root: Path, store: Path, steps: list[int]) -> list[int]:
    """How many steps each child came."""
    arguments = [address, str(root), str(store), *map(str, steps)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return [int(each) for each in map(json.loads, done.stdout.splitlines())]


def main(address: str, root: str, store: str, *steps: str) -> None:
    """One child after the other."""
    for step in [*map(int, steps), sys.maxsize]:
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            os._exit(_update(address, Path(root), ModelStore(Path(store)), step, writing))
        os.close(writing)
        with os.fdopen(reading, "rb") as reports:
            made = len(reports.read())
        _, status = os.waitpid(pid, 0)
        if status and not os.WIFSIGNALED(status):
            raise RuntimeError(f"the child killed at step {step} ended with {status}")
        print(json.dumps(made), flush=True)


def _update(address: str, root: Path, store: ModelStore, step: int, writing: int) -> int:
    write, count = os.write, itertools.count()
    for name in (*STEPS, *STEPS_THAT_FREE):
        setattr(os, name, _counted(getattr(os, name), count, step, lambda: write(writing, b".")))
    catalog = open_catalog(address, store=store, root=root)
    with Updater(NAME, catalog, store, trial=lambda *_: None) as updater:
        result = updater.update()
    return 0 if result.staged else 1


def _counted(call: Any, count: Any, step: int, report: Any) -> Any:
    def counted(*arguments: Any, **options: Any) -> Any:
        report()
        if next(count) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return counted


if __name__ == "__main__":
    main(*sys.argv[1:])
