"""Help pages, and docs/cli.md against the code."""

import re
from pathlib import Path

import pytest
import typer.main

from edgewise.cli import app
from edgewise.cli.commands import read_config
from edgewise.cli.config import config_keys
from edgewise.cli.exit_codes import ExitCode

DOCS = (Path(__file__).parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = typer.main.get_command(app).commands
MODELS = COMMANDS["models"].commands
OPTIONS = [
    pytest.param(option, id=f"{name} {option.name}")
    for name, command in (COMMANDS | MODELS).items()
    for option in command.params
]


def rows(heading):
    """The cells of the table under a heading of docs/cli.md."""
    section = DOCS.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    cells = (re.split(r"(?<!\\)\|", line) for line in lines)
    return [[cell.strip().replace("\\|", "|") for cell in row[1:-1]] for row in cells]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_has_a_help_text_and_a_default(option):
    """A default of None or False is put into words."""
    assert option.help.endswith(".")
    worded = isinstance(option.show_default, str) or option.default not in {None, False}
    assert worded or option.required


def test_short_options_mean_the_same_everywhere():
    """And are those that the docs list."""
    found = {}
    for command in (COMMANDS | MODELS).values():
        for option in command.params:
            for name in option.opts:
                if re.fullmatch("-[a-z]", name):
                    assert found.setdefault(name, option.opts[-1]) == option.opts[-1]
    line = next(line for line in DOCS.splitlines() if line.startswith("The short options"))
    assert set(found) | {"-V", "-h"} == set(re.findall("`(-.)`", line))


@pytest.mark.parametrize("columns", ["60", "80"])
@pytest.mark.parametrize("command", ["", *COMMANDS, "models pull", "models remove"])
def test_no_help_page_cuts_a_name(edgewise, monkeypatch, command, columns):
    """In narrow terminals too; -h and --help are the same. Types are not Python's."""
    monkeypatch.setenv("COLUMNS", columns)
    arguments = command.split()
    done = edgewise(*arguments, "-h")
    assert done == edgewise(*arguments, "--help")
    assert done.returncode == 0
    assert "Exit codes: 0 ok" in done.stdout
    assert "…" not in done.stdout
    assert not re.search(r"<(bool|str|path|int|float|list)\b", done.stdout)
    assert "..." not in done.stdout.replace("[ARGS]...", "")


def test_version(edgewise):
    """Long and short."""
    done = edgewise("--version")
    assert re.fullmatch(r"edgewise \d+\.\d+\.\d+\S*\n", done.stdout)
    assert edgewise("-V") == done


def test_docs_list_every_command():
    """With a line for each."""
    section = DOCS.split("## ")[0]
    assert set(re.findall(r"\| `edgewise (\w+)", section)) == set(COMMANDS)


def test_docs_list_every_command_of_models():
    """With what it takes."""
    section = DOCS.split("## Models\n")[1].split("\n## ")[0]
    assert set(re.findall(r"`models (\w+)", section)) == set(MODELS)


def test_docs_list_every_exit_status():
    """In the words of --help."""
    assert rows("Exit codes") == [[str(code.value), code.meaning] for code in ExitCode]


def test_docs_list_every_key_of_the_config_file():
    """Each is the name of an option of `generate`, or of `models pull`."""
    documented = re.findall(r"`([a-z-]+)`", " ".join(row[0] for row in rows("The config file")))
    assert sorted(documented) == sorted(config_keys())
    commands = (COMMANDS["generate"], MODELS["pull"])
    options = {name for each in commands for option in each.params for name in option.opts}
    assert {f"--{key}" for key in config_keys()} <= options


def test_options_in_the_docs_exist():
    """Each that is written with two dashes."""
    known = {
        name
        for command in (COMMANDS | MODELS).values()
        for option in command.params
        for name in option.opts
    }
    known |= {"--install-completion", "--version", "--help"}
    assert set(re.findall(r"`[^`]*?(--[a-z][a-z-]*)", DOCS)) <= known


def test_config_file_is_given_to_every_command():
    """By name; `models` reads it itself, since what it remembers comes first."""
    context = typer.main.get_command(app).make_context("edgewise", ["doctor"])
    read_config(context)
    assert set(context.default_map) | {"models"} == set(COMMANDS)
    assert context.obj is not None
