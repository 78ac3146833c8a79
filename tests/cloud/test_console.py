"""Progress on standard error: lines in files, a live line on terminals."""

import os
import subprocess
import sys

import pytest

from edgewise_cloud import console
from edgewise_cloud.console import LineProgress, LiveProgress

LIVE = """
import os, time
from edgewise_cloud.console import say, shown_progress, without_native_logs
with shown_progress() as progress, without_native_logs():
    progress.step("compiling")
    progress.count(3, 7)
    time.sleep(0.3)
    os.write(2, b"INFO: a library's own line\\n")
    say("a [bold] line")
"""

# Ctrl-C while TensorFlow is imported for `convert`, which keeps other libraries quiet as well.
INTERRUPTED = """
import time
from edgewise_cloud.console import exit_interrupted, shown_progress, without_native_logs
with shown_progress() as progress, without_native_logs(), without_native_logs():
    progress.step("importing")
    time.sleep(0.3)
    exit_interrupted()
"""


def test_a_step_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting adds lines when they are due, with the step's name; the same step is said once."""
    lines: list[str] = []
    progress = LineProgress(lines.append)
    progress.step("loading")
    progress.count(1, 1000)
    monkeypatch.setattr(console, "COUNT_INTERVAL", 0.0)
    progress.step("compiling")
    progress.step("compiling")
    progress.count(3, 1000, "loss 1.2")
    assert lines == ["loading", "compiling", "compiling 3 of 1,000 · loss 1.2"]


def test_names_cannot_command_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Control characters are shown."""
    console.say("serves a\x1b[31m\x9b2J\rb")
    assert capsys.readouterr().err == "serves a\\u001b[31m\\u009b2J\\u000db\n"


def test_a_terminal_shows_a_live_line_while_libraries_are_kept_quiet() -> None:
    """Their lines are dropped; the console's get through."""
    done = subprocess.run(
        [sys.executable, "-c", LIVE],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TTY_COMPATIBLE": "1", "TERM": "xterm"},
    )
    assert "compiling 3 of 7" in done.stderr
    assert "a [bold] line" in done.stderr
    assert "a library's own line" not in done.stderr
    assert done.stdout == ""


def test_ctrl_c_gives_the_terminal_back() -> None:
    """What was shown was seen at once; the cursor is visible again, at the start of a line."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"TTY_COMPATIBLE": "1", "TERM": "xterm"},
    )
    assert done.returncode == 130
    assert "importing" in done.stderr
    assert done.stderr.endswith("\x1b[?25h\n")


def test_the_clock_runs_from_the_start() -> None:
    """A step does not set it back."""
    live = LiveProgress()
    begun = live.bar.tasks[0].start_time
    live.step("loading")
    live.count(3, 7)
    live.step("compiling")
    assert live.bar.tasks[0].start_time == begun
