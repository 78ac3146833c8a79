"""Downloads that are killed (SIGKILL) at random offsets, in a process of its own.

It imports everything once, has one thread, and forks a child for each download. Prints a line of
JSON for each: the first and the last offset that the child reported, and whether it was killed.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from edgewise.delivery.download import download
from edgewise.delivery.fetch import open_fetcher
from edgewise_edge.installed.store import ModelStore


def kill_downloads(
    address: str, store: Path, *, sha256: str, size: int, kills: int, seed: int
) -> list[tuple[int, int, bool]]:
    """For each child: where it started, how far it came, and whether it was killed."""
    arguments = [address, str(store), sha256, str(size), str(kills), str(seed)]
    done = subprocess.run(
        [sys.executable, "-m", __name__, *arguments], check=True, stdout=subprocess.PIPE, text=True
    )
    return [
        (start, end, killed) for start, end, killed in map(json.loads, done.stdout.splitlines())
    ]


def main(address: str, root: str, sha256: str, size: int, kills: int, seed: int) -> None:
    """Kill `kills` children, one after the other, and let the last one finish."""
    store, chance = ModelStore(Path(root)), random.Random(seed)
    there = 0
    for n in range(kills):
        # Even steps on average, at any offset; the end included, where the file is made a blob.
        target = min(size, chance.randint(there, max(there, size * (n + 1) // kills)))
        child = _child(address, store, sha256, size, target)
        there = child[1]
        print(json.dumps(child), flush=True)
        if store.blob(sha256):
            return
    print(json.dumps(_child(address, store, sha256, size, size + 1)), flush=True)


def _child(
    address: str, store: ModelStore, sha256: str, size: int, target: int
) -> tuple[int, int, bool]:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        os._exit(_download(address, store, sha256, size, target, writing))
    os.close(writing)
    offset, start = 0, None
    with os.fdopen(reading, "rb", buffering=0) as reports:
        while report := reports.read(8):
            offset = int.from_bytes(report)
            start = offset if start is None else start
            if offset >= target:
                os.kill(pid, signal.SIGKILL)
                break
    _, status = os.waitpid(pid, 0)
    return start or 0, offset, os.WIFSIGNALED(status)


def _download(
    address: str, store: ModelStore, sha256: str, size: int, target: int, writing: int
) -> int:
    def report(done: int, *_: int) -> None:
        os.write(writing, done.to_bytes(8))
        if done >= target:
            time.sleep(0.001)  # the kill comes now, or a little later

    with store.partial(sha256, size) as partial:
        download(open_fetcher(address), "model.tflite", partial, on_progress=report)
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))  # type: ignore[call-arg]
