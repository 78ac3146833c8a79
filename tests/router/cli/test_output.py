"""What is shown while a command waits."""

import io
import json
import sys
import time

import pytest
from rich.table import Table

from edgewise.cli import output
from edgewise.cli.tables import profile_table
from edgewise_edge.profiling import Profile, Run


@pytest.fixture
def written(monkeypatch):
    """Where standard error goes: a terminal, to which `waiting` writes at once."""
    stream = io.StringIO()
    monkeypatch.setattr(output, "notes", output.SafeConsole(file=stream, force_terminal=True))
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


HOSTILE = "a\x1b[5mb\r\x9b2J\x00\n\tc\x7f\u202e"
SHOWN = "a\\u001b[5mb\\u000d\\u009b2J\\u0000\n\tc\\u007f\\u202e"


@pytest.mark.parametrize(("terminal", "expected"), [(True, SHOWN), (False, HOSTILE)])
def test_text_cannot_command_a_terminal(monkeypatch, capsys, terminal, expected):
    """It is escaped there; a file or a pipe gets it unchanged."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    output.write(HOSTILE, end="")
    assert capsys.readouterr().out == expected


def test_json_for_a_terminal_stays_json(monkeypatch, capsys):
    """JSON leaves some control characters as they are."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    output.write_json({"text": HOSTILE})
    written = capsys.readouterr().out
    assert written.replace("\n", "").isprintable()
    assert json.loads(written) == {"text": HOSTILE}


@pytest.mark.parametrize("name", ["[/b]", "[red]a", "[link=http://127.0.0.1]a"])
def test_names_are_no_markup(capsys, name):
    """Rich would fail, leave a part out, or make a link of it."""
    run = Run(prompt_tokens=1, first_token=1.0, gap=1.0)
    output.write_table(
        profile_table(
            Profile(
                model=name,
                threads=1,
                cold_start=1.0,
                resident_memory=1,
                token_bytes=1,
                bandwidth=1.0,
                short=run,
                long=run,
            )
        )
    )
    assert f"{name}, 1 threads" in capsys.readouterr().out


def test_names_and_messages_cannot_command_a_terminal(written, monkeypatch, capsys):
    """In errors, and in tables, whose own colours stay."""
    output.notes.print(f"error: {HOSTILE}", style="red")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    table = Table(title=HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    output.write_table(table)
    table_shown = capsys.readouterr().out
    assert "\x1b[1m" in table_shown
    for shown in (written.getvalue(), table_shown):
        assert "\\u009b2J" in shown
        assert "\x1b[5m" not in shown
        assert not set("\r\x9b\x00\x7f\u202e") & set(shown)
