"""Command-line options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

MoreTexts = Annotated[
    list[Path] | None,
    typer.Argument(metavar="[FILE]...", help="More files for --text, so that --text *.txt works."),
]
CHECKPOINT_HELP = "Bundled model, folder, KerasHub preset or hf://USER/MODEL."
