"""`edgewise-cloud channel revoke`, `channel rollout` and `channel show`."""

from json import dumps
from typing import Annotated

import typer

from edgewise_cloud.channel.cli.shared import (
    Folder,
    Json,
    Keys,
    Name,
    Revision,
    changing,
    key_ring,
)
from edgewise_cloud.console import say


def revoke(
    folder: Folder,
    revision: Revision,
    reason: Annotated[
        str, typer.Option(metavar="TEXT", help="Why; devices show it to their users.")
    ],
    name: Name = None,
    keys: Keys = None,
    json: Json = False,
) -> None:
    """Tell devices not to use a revision, and those that have it to go back.

    Example: edgewise-cloud channel revoke models-channel 9410ac51ddc5 --reason "repeats itself"
    """
    from edgewise_cloud.channel.changes import revoke

    with changing(folder, keys) as change:
        revoked = revoke(change.repository, change.keys, revision, reason, name)
    described = {"revision": revoked.revision, "number": revoked.number, "revoked": reason}
    print(dumps(described, indent=2) if json else f"{revision} is revoked: {reason}")


def rollout(
    folder: Folder,
    revision: Revision,
    percent: Annotated[
        float,
        typer.Argument(
            metavar="PERCENT", min=0, max=100, help="Share of the devices that may take it."
        ),
    ],
    name: Name = None,
    keys: Keys = None,
    json: Json = False,
) -> None:
    """Offer a revision to more of the devices, or to fewer.

    Example: edgewise-cloud channel rollout models-channel 9410ac51ddc5 50
    """
    from edgewise_cloud.channel.changes import set_rollout

    with changing(folder, keys) as change:
        changed = set_rollout(change.repository, change.keys, revision, percent, name)
    described = {"revision": revision, "number": changed.number, "rollout": percent}
    text = f"{revision} is offered to {percent:g} % of devices"
    print(dumps(described, indent=2) if json else text)


def show(folder: Folder, keys: Keys = None, json: Json = False) -> None:
    """Print a channel's revisions, deltas, when its signatures expire, and which keys are here.

    Example: edgewise-cloud channel show models-channel
    """
    from edgewise_cloud.channel.changes import expiring
    from edgewise_cloud.channel.repository import Repository
    from edgewise_cloud.channel.show import as_text, describe

    repository = Repository.read(folder)
    described = describe(repository, key_ring(folder, keys))
    print(dumps(described, indent=2) if json else as_text(described))
    for warning in expiring(repository):
        say(f"note: {warning}", style="yellow")
