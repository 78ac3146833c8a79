"""Running the command lines as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

BIN = Path(sys.executable).parent


def run(
    *arguments: str | Path, command: str = "edgewise", stdin: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with additional environment variables, by default without standard input."""
    return subprocess.run(
        [BIN / command, *arguments],
        env=os.environ | environment,
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Completed:
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


RunCommand = Callable[..., Completed]
