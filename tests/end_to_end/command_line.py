"""Running the command lines as a user does."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def run(
    *arguments: str | Path, command: str = "edgewise", **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command with additional environment variables and nothing on standard input."""
    return subprocess.run(
        [BIN / command, *arguments],
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
