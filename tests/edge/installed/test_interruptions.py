"""SIGKILL and a full disk at each step of each change: the active model is always whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.interruptions import CHANGES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["killed", "full"])
def test_changes_may_be_interrupted_at_any_step(tmp_path: Path, kind: str) -> None:
    """What is active can be loaded, nothing is lost, and the change succeeds when tried again."""
    program = [sys.executable, "-m", "tests.support.interruptions", tmp_path, kind]
    done = subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    steps = dict(line.split() for line in done.stdout.splitlines())
    assert list(steps) == [change.__name__ for change in CHANGES]
    assert min(map(int, steps.values())) >= 5
