"""`edgewise-cloud`: serve, serve-ray, load, token, convert, evaluate, train, finetune."""

import sys

import typer

from edgewise_cloud.console import say
from edgewise_cloud.convert.cli import convert, evaluate
from edgewise_cloud.errors import CloudError
from edgewise_cloud.loadtest.cli import load_test
from edgewise_cloud.serving.cli import serve, token
from edgewise_cloud.serving.on_ray.cli import serve_ray
from edgewise_cloud.train.cli import finetune, train
from edgewise_edge.errors import EdgeError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
app.command()(serve)
app.command()(serve_ray)
app.command("load")(load_test)
for command in (token, convert, evaluate, train, finetune):
    app.command()(command)


def main() -> None:
    """Run the command line; an error is one line on standard error and exit status 2."""
    try:
        app()
    except (CloudError, EdgeError) as error:
        say(f"error: {error}", style="red")
        sys.exit(2)
