"""`edgewise-cloud channel init`."""

from json import dumps
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated

import typer

from edgewise_cloud.channel.cli.shared import Json
from edgewise_cloud.console import say

if TYPE_CHECKING:  # a command line that only prints its help need not import it
    from edgewise_cloud.channel.create import NewChannel

EXPIRY = "Days until signatures expire"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the channel.")],
    keys: Annotated[
        Path | None,
        typer.Option(
            "--keys",
            "-k",
            metavar="KEYS",
            help="New folder for the private keys, never inside DIR.",
            show_default="DIR-keys",
        ),
    ] = None,
    root_keys: Annotated[
        int, typer.Option(metavar="N", min=1, max=20, help="Root keys to make.")
    ] = 2,
    root_threshold: Annotated[
        int, typer.Option(metavar="N", min=1, max=20, help="Root keys that must sign a new root.")
    ] = 1,
    root_days: Annotated[
        int, typer.Option(metavar="DAYS", min=1, max=3650, help="The root.", rich_help_panel=EXPIRY)
    ] = 365,
    targets_days: Annotated[
        int,
        typer.Option(
            metavar="DAYS", min=1, max=3650, help="The list of files.", rich_help_panel=EXPIRY
        ),
    ] = 90,
    snapshot_days: Annotated[
        int,
        typer.Option(metavar="DAYS", min=1, max=3650, help="The snapshot.", rich_help_panel=EXPIRY),
    ] = 14,
    timestamp_days: Annotated[
        int,
        typer.Option(
            metavar="DAYS",
            min=1,
            max=3650,
            help="The timestamp: how long devices may be kept from an update.",
            rich_help_panel=EXPIRY,
        ),
    ] = 7,
    json: Json = False,
) -> None:
    """Make a channel: a folder that any static server can serve, and the keys that sign it.

    Example: edgewise-cloud channel init models-channel --keys ~/channel-keys
    """
    from edgewise_cloud.channel.create import create_channel
    from edgewise_cloud.channel.keys import default_keys
    from edgewise_cloud.channel.metadata import RoleName

    days = dict(
        zip(RoleName, (root_days, targets_days, snapshot_days, timestamp_days), strict=True)
    )
    made = create_channel(
        folder,
        keys or default_keys(folder),
        root_keys=root_keys,
        root_threshold=root_threshold,
        days=days,
    )
    described = {
        "channel": str(made.folder),
        "root": str(made.root),
        "root_sha256": made.root_sha256,
        "keys": [str(path) for path in made.keys],
    }
    print(dumps(described, indent=2) if json else _summary(made, root_keys, root_threshold))
    if not json:
        command = ["edgewise-cloud", "publish", "MODEL_FOLDER", "--channel", str(folder)]
        say(f"next: {join([*command, *(['--keys', str(keys)] if keys else [])])}")


def _summary(made: "NewChannel", root_keys: int, threshold: int) -> str:
    folder = made.keys[0].parent
    return (
        f"{made.folder}: an empty channel; serve this folder, and nothing beside it\n"
        f"root for devices: {made.root}\n"
        f"its sha256:       {made.root_sha256}\n"
        f"private keys:     {folder}: {', '.join(path.name for path in made.keys)}\n"
        f"Move the {root_keys} root keys off this machine ({threshold} of them must sign a new "
        "root). targets.pem is for publishing, snapshot.pem and timestamp.pem for 'channel refresh'."
    )
