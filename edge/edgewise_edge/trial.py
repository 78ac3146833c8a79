"""Trying a device model in a child process: a broken one may crash the process that loads it."""

import os
import subprocess
import sys
from pathlib import Path

from edgewise_edge.errors import EdgeError, ModelIncompatibleError
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE, Manifest

TIMEOUT = 120.0  # seconds


def try_model(folder: Path) -> int:
    """Run every signature of the model in `folder` in a child process; the memory it took, in bytes.

    Raises ModelIncompatibleError if the child fails, crashes or takes longer than TIMEOUT.
    """
    command = [sys.executable, "-m", "edgewise_edge.trial", str(folder)]
    try:
        child = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ModelIncompatibleError(
            f"{folder}: the trial took longer than {TIMEOUT:.0f} s"
        ) from error
    if child.returncode != 0:
        reason = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        raise ModelIncompatibleError(f"{folder} does not run on LiteRT: {reason[0]}")
    return int(child.stdout)


def _measure(folder: Path) -> int:
    """By how many bytes resident memory grows when the model is loaded and run."""
    before = _resident_memory()
    runtime = Runtime.load(folder / MODEL_FILE, Manifest.read(folder).architecture, threads=1)
    session, window = runtime.session(), runtime.architecture.context_window
    while session.position < window:
        session.forward([0] * min(runtime.chunk, window - session.position))
    runtime.session().forward([0])
    return _resident_memory() - before


def _resident_memory() -> int:
    """In bytes; 0 where there is no /proc.

    Not from getrusage: a child's peak starts at its parent's.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    try:
        print(_measure(Path(sys.argv[1])))
    except EdgeError as error:
        sys.exit(str(error))
