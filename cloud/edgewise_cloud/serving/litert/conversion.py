"""Converting a checkpoint in a child process: TensorFlow's memory goes with it.

As a module this is the child. It writes a line of JSON for each message of its progress, and at most one
with the error that ended it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from edgewise_cloud import errors
from edgewise_cloud.console import Progress
from edgewise_cloud.errors import CloudError, ConversionFailedError


def convert_in_child(checkpoint: str, out: Path, progress: Progress) -> None:
    """Convert `checkpoint` to int8 with a row per slot. Raises what convert() does."""
    command = [sys.executable, "-P", "-m", __name__, checkpoint, str(out)]
    # The child finds the packages where this process did.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(str, sys.path)))}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
        ) as child,
    ):
        _follow(child.stdout or (), progress)
        if child.wait():
            raise ConversionFailedError(
                f"converting {checkpoint} for --engine litert failed: {_last_line(log)}"
            )


def _follow(lines: Iterable[str], progress: Progress) -> None:
    for line in lines:
        kind, *values = json.loads(line)
        if kind == "step":
            progress.step(*values)
        elif kind == "count":
            progress.count(*values)
        else:
            raise getattr(errors, kind)(*values)


def _last_line(log: IO[str]) -> str:
    log.seek(0)
    lines = [line for line in log.read().splitlines() if line.strip()]
    return lines[-1] if lines else "its process was ended, as happens where memory is short"


class _Lines:
    """Progress as lines for the parent."""

    def __init__(self) -> None:
        # What libraries print goes where their logs go.
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)

    def step(self, text: str) -> None:
        """See Progress."""
        self.tell("step", text)

    def count(self, done: int, total: int, note: str = "") -> None:
        """See Progress."""
        self.tell("count", done, total, note)

    def tell(self, kind: str, *values: Any) -> None:
        """Write a line."""
        print(json.dumps([kind, *values]), file=self._file)


def _main() -> None:
    lines = _Lines()  # before anything that may print is imported
    # It takes a second, which the parent need not wait for.
    from edgewise_cloud.convert.convert import convert
    from edgewise_cloud.convert.quantization import Quantization

    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint")
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    try:
        convert(given.checkpoint, given.out, Quantization.INT8, rows=True, progress=lines)
    except CloudError as error:
        lines.tell(type(error).__name__, str(error))


if __name__ == "__main__":
    _main()
