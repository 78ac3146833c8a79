"""The commands of `edgewise-cloud`, and how their errors end."""

import importlib.metadata
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from edgewise_cloud.channel.cli import channel_app
from edgewise_cloud.channel.cli.publish import publish
from edgewise_cloud.cli import exit_codes
from edgewise_cloud.console import FAILED, say
from edgewise_cloud.convert.cli import convert, evaluate
from edgewise_cloud.errors import CloudError
from edgewise_cloud.loadtest.cli import load_test
from edgewise_cloud.options import Command, Group
from edgewise_cloud.serving.cli import serve, token
from edgewise_cloud.serving.on_ray.cli import serve_ray
from edgewise_cloud.train.cli import finetune, train
from edgewise_edge.errors import EdgeError
from edgewise_edge.standard_streams import (
    abandon,
    emit,
    exit_status,
    prepare_output,
    unwritten_result,
)

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog=exit_codes.EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
PANELS: dict[str, dict[str, Callable[..., None]]] = {
    "The service": {"serve": serve, "serve-ray": serve_ray, "token": token, "load": load_test},
    "Models": {"train": train, "finetune": finetune, "convert": convert, "evaluate": evaluate},
    "Channels": {"publish": publish},
}
for panel, commands in PANELS.items():
    for name, command in commands.items():
        app.command(name, cls=Command, rich_help_panel=panel)(command)

app.add_typer(channel_app, name="channel", rich_help_panel="Channels")


def _show_version(show: bool) -> None:
    if show:
        emit(f"edgewise-cloud {importlib.metadata.version('edgewise-cloud')}", finished=False)
        raise typer.Exit


@app.callback()
def edgewise_cloud(
    version: Annotated[  # its callback prints it
        bool,
        typer.Option(
            "--version",
            "-V",
            is_eager=True,
            callback=_show_version,
            help="Print the version and exit.",
            show_default=False,
        ),
    ] = False,
) -> None:
    """The edgewise cloud: serve a GPT-2 over gRPC, and make models for devices."""


def run() -> int:
    """Run the command line; the exit status. An error is one line on standard error."""
    try:
        prepare_output()
        status = _status()
        sys.stdout.flush()
    except (CloudError, EdgeError, OSError) as error:
        say(f"error: {error}", style="red")
        if result := unwritten_result(error):
            say(result)
        # Typer's own message about invalid usage may be what could not be written.
        return getattr(error.__context__, "exit_code", exit_codes.of(error))
    except MemoryError as error:
        say(f"error: there is not enough memory: {error or 'Python has none left'}", style="red")
        return FAILED
    finally:
        abandon(sys.stdout)
        abandon(sys.stderr)
    return status


def _status() -> int:
    try:
        app()
    except SystemExit as ended:
        return exit_status(ended)
    return 0
