"""Running the command lines as a user does."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

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


def in_this_process(
    name: str,
    main: Callable[[], None],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> RunCommand:
    """A function that runs the command `name`, and sets environment variables as `run` does."""

    def run(*arguments: str | Path, **environment: str) -> Completed:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [name, *map(str, arguments)])
            for variable, value in environment.items():
                patch.setenv(variable, value)
            with pytest.raises(SystemExit) as exited:
                main()
        return Completed(int(exited.value.code or 0), *capsys.readouterr())

    return run
