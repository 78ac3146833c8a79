"""Command-line options that several commands share, and what all commands have in common."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

ARGUMENTS_HELP = "More files for --text, so that --text *.txt works."
MoreTexts = Annotated[
    list[Path] | None,
    typer.Argument(metavar="FILE", help=ARGUMENTS_HELP, show_default=False),
]
CHECKPOINT_HELP = (
    "A bundled model, a folder (Hugging Face's or Keras's GPT-2 layout), a KerasHub preset such as "
    "gpt2_base_en, or hf://USER/MODEL."
)

# Options that take all files up to the next option, as --then *.txt becomes. Those of --text are
# arguments instead, see MoreTexts: a file that belongs to another list must not be among them.
TAKES_FILES = ("--then",)

# Former names of options, still accepted, and not shown.
FORMER = {"--preset": "--checkpoint", "--keras": "--checkpoint"}


class PlainTypes:
    """Shows what to write, not Python's types: flags take no value, arguments are named already."""

    def get_params(self, ctx: Any) -> list[Any]:
        """See click.Command."""
        params: list[Any] = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if isinstance(param, TyperArgument):
                param.display_type_rich = lambda ctx: None  # type: ignore[method-assign]  # noqa: ARG005
            elif param.is_flag:
                param.metavar = ""
        return params

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """See click.Command; Typer puts what is required in braces."""
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]
        return [piece.replace("{", "").replace("}", "") for piece in pieces]


class Group(PlainTypes, TyperGroup):
    """All commands."""


class Command(PlainTypes, TyperCommand):
    """A command that knows the former names of its options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse them as their present names, with each file after its option."""
        return super().parse_args(ctx, list(_repeated(_present(argument) for argument in args)))


def _repeated(arguments: Iterable[str]) -> Iterator[str]:
    """`--then a b` as `--then a --then b`."""
    option, has_file = "", False
    for argument in arguments:
        if argument.startswith("-"):
            option, _, file = argument.partition("=")
            has_file = bool(file)
        elif option in TAKES_FILES and has_file:
            yield option
        else:
            has_file = True
        yield argument


def _present(argument: str) -> str:
    option, equals, value = argument.partition("=")
    return f"{FORMER.get(option, option)}{equals}{value}"
