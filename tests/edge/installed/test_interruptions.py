"""SIGKILL and a full disk at each step of each change: the active model is always whole."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.interruptions import CHANGES

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("kind", ["killed", "full"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_may_be_interrupted_at_any_step(tmp_path: Path, change: str, kind: str) -> None:
    """What is active can be loaded, nothing is lost, and the change succeeds when tried again."""
    program = [sys.executable, "-m", "tests.support.interruptions", tmp_path, change, kind]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
