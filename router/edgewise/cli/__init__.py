"""The command line, `edgewise`."""

from edgewise.cli.commands import app
from edgewise.cli.entry import main

__all__ = ["app", "main"]
