"""The command line, `edgewise`."""

from edgewise.cli.commands import app, main

__all__ = ["app", "main"]
