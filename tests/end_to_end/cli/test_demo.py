"""`make demo`."""

import re
import subprocess
import sys

import pytest


@pytest.mark.timeout(900)
def test_demo_shows_every_decision() -> None:
    """Readable when piped, each scene with its decision, and no process left running."""
    done = subprocess.run(
        [sys.executable, "router/demo.py"], capture_output=True, text=True, check=True
    )
    decisions = [line.partition("→")[2] for line in done.stdout.splitlines() if "  → " in line]
    *others, handoff = [" · ".join(line.split(" · ")[:2]).strip() for line in decisions]
    assert others == [
        "on_device · preferred",
        "in_cloud · other_vetoed",
        "on_device · last_resort",
        "in_cloud · budget",
    ]
    # The cloud may have sent some tokens more before it was killed.
    found = re.fullmatch(r"in_cloud \((\d+)\) → on_device \((\d+)\) · last_resort", handoff)
    assert found, handoff
    assert sum(map(int, found.groups())) == 60
    assert "\x1b" not in done.stdout
    assert done.stderr == ""
