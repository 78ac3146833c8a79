"""`edgewise-cloud channel` and `edgewise-cloud publish`: a channel of models, and what is in it."""

from collections.abc import Callable

import typer

from edgewise_cloud.channel.cli.init import init
from edgewise_cloud.channel.cli.revisions import revoke, rollout, show
from edgewise_cloud.channel.cli.signatures import refresh, rotate_keys
from edgewise_cloud.options import Command, Group

channel_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make and keep a signed channel that devices get models from.",
)
COMMANDS: dict[str, Callable[..., None]] = {
    "init": init,
    "show": show,
    "refresh": refresh,
    "rotate-keys": rotate_keys,
    "rollout": rollout,
    "revoke": revoke,
}
for name, command in COMMANDS.items():
    channel_app.command(name, cls=Command)(command)
