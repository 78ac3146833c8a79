"""What is shown while a command waits."""

import io
import time

import pytest
from rich.console import Console

from edgewise.cli import output


@pytest.fixture
def written(monkeypatch):
    """Where standard error goes: a terminal, to which `waiting` writes at once."""
    stream = io.StringIO()
    monkeypatch.setattr(output, "notes", Console(file=stream, force_terminal=True))
    monkeypatch.setattr(output, "PATIENCE", 0)
    return stream


def test_terminal_shows_what_a_command_waits_for(written):
    """Until the command has something to say."""
    deadline = time.monotonic() + 30
    with output.waiting("for the model") as stop:
        while "for the model" not in written.getvalue():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        stop()
        shown = written.getvalue()
    assert written.getvalue() == shown


def test_quick_command_shows_nothing(written, monkeypatch):
    """One that ends before anybody wonders."""
    monkeypatch.setattr(output, "PATIENCE", 60)
    with output.waiting("for the model"):
        pass
    assert "for the model" not in written.getvalue()


def test_log_file_shows_nothing(monkeypatch, capsys):
    """Standard error that is no terminal."""
    monkeypatch.setattr(output, "PATIENCE", 0)
    with output.waiting("for the model"):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
