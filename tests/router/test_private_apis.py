"""A canary: what both command lines use of Typer beyond its public API (see CONTRIBUTING.md)."""

import inspect
from importlib.metadata import version

from typer.core import TyperArgument
from typer.testing import CliRunner

from edgewise.cli import app


def test_typer_asks_an_argument_for_its_type() -> None:
    """Through display_type_rich(ctx), which is replaced: help pages name no Python type."""
    told = f"typer {version('typer')}: TyperArgument.display_type_rich"
    assert hasattr(TyperArgument, "display_type_rich"), f"{told} is gone"
    given = list(inspect.signature(TyperArgument.display_type_rich).parameters)
    assert given == ["self", "ctx"], f"{told} has the parameters {given}"
    page = CliRunner().invoke(app, ["generate", "--help"]).output
    assert "PROMPT" in page
    assert "<str>" not in page, f"{told} is not what a help page shows"
