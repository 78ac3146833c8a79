"""`edgewise-cloud channel`: making a channel of models, its keys and signatures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from json import dumps
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise_cloud.console import Progress, say, shown_progress
from edgewise_cloud.options import Command, Group

if TYPE_CHECKING:  # a command line that only prints its help need not import them
    from edgewise_cloud.channel.create import NewChannel
    from edgewise_cloud.channel.keys import KeyRing
    from edgewise_cloud.channel.repository import Repository

EXPIRY = "Days until signatures expire"
ROLES = ("root", "targets", "snapshot", "timestamp")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The channel's folder.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option(
        "--keys",
        "-k",
        metavar="KEYS",
        help="Folder with private keys; may be given several times, as for a stick with root keys.",
        show_default="DIR-keys",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.", show_default="off")]
Name = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="The model's name.", show_default="the one that has the revision"
    ),
]
Revision = Annotated[
    str, typer.Argument(metavar="REVISION", help="A revision as 'channel show' prints it.")
]

channel_app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make and keep a signed channel that devices get models from.",
)


def _roles_option(help_: str, default: str) -> Any:
    return typer.Option(
        "--role",
        metavar="ROLE",
        help=f"{help_}; may be given several times: {', '.join(ROLES)}.",
        show_default=default,
    )


@channel_app.command("init", cls=Command)
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


@channel_app.command("refresh", cls=Command)
def refresh(
    folder: Folder,
    keys: Keys = None,
    role: Annotated[
        list[str] | None, _roles_option("Also renew this role", "snapshot and timestamp")
    ] = None,
    json: Json = False,
) -> None:
    """Renew the signatures that expire soonest; run it by cron, daily.

    Example: edgewise-cloud channel refresh models-channel
    """
    from edgewise_cloud.channel.changes import expiring, refresh
    from edgewise_cloud.channel.metadata import ONLINE

    roles = _role_names(role)
    with _changing(folder, keys) as change:
        refresh(change.repository, change.keys, roles or ONLINE)
        left = change.repository.roles.days_left
        days = {each: round(left(each), 1) for each in {*roles, *ONLINE}}
        soon = expiring(change.repository)
    for warning in soon:
        say(f"note: {warning}", style="yellow")
    if json:
        print(dumps({"channel": str(folder), "days_left": days, "expiring": soon}, indent=2))
    else:
        renewed = ", ".join(f"{each} for {days[each]:.0f} days" for each in sorted(days))
        print(f"{folder}: signed again: {renewed}")


@channel_app.command("rotate-keys", cls=Command)
def rotate_keys(
    folder: Folder,
    keys: Keys = None,
    role: Annotated[list[str] | None, _roles_option("Whose keys to replace", "all")] = None,
    json: Json = False,
) -> None:
    """Replace keys: devices follow from the old root to the new one. Needs the root's keys.

    Example: edgewise-cloud channel rotate-keys models-channel --keys /media/stick --role timestamp
    """
    from edgewise_cloud.channel.metadata import RoleName
    from edgewise_cloud.channel.rotate import rotate_keys

    with _changing(folder, keys) as change:
        done = rotate_keys(change.repository, change.keys, _role_names(role) or tuple(RoleName))
    new, old = [str(path) for path in done.new], [str(path) for path in done.old]
    if json:
        described = {"root": str(done.root), "version": done.root_version, "new": new, "old": old}
        print(dumps(described, indent=2))
        return
    print(f"root {done.root_version}: {done.root}")
    print("\n".join(f"new key: {path}" for path in new))
    say("devices that have the old root find the new one; give new devices the new one")
    if old:
        say(f"no longer trusted, remove them: {join(old)}")


@channel_app.command("revoke", cls=Command)
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

    Example: edgewise-cloud channel revoke models-channel d13fcb249e75 --reason "repeats itself"
    """
    from edgewise_cloud.channel.changes import revoke

    with _changing(folder, keys) as change:
        revoked = revoke(change.repository, change.keys, revision, reason, name)
    described = {"revision": revoked.revision, "number": revoked.number, "revoked": reason}
    print(dumps(described, indent=2) if json else f"{revision} is revoked: {reason}")


@channel_app.command("rollout", cls=Command)
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

    Example: edgewise-cloud channel rollout models-channel d13fcb249e75 50
    """
    from edgewise_cloud.channel.changes import set_rollout

    with _changing(folder, keys) as change:
        changed = set_rollout(change.repository, change.keys, revision, percent, name)
    described = {"revision": revision, "number": changed.number, "rollout": percent}
    text = f"{revision} is offered to {percent:g} % of devices"
    print(dumps(described, indent=2) if json else text)


@channel_app.command("show", cls=Command)
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


@dataclass(frozen=True, slots=True)
class Change:
    """A channel that is locked for a change, and the keys that may sign it."""

    repository: "Repository"
    keys: "KeyRing"
    progress: Progress


@contextmanager
def _changing(folder: Path, keys: list[Path] | None) -> Iterator[Change]:
    from edgewise_cloud.channel.repository import Repository, locked

    with shown_progress() as progress, locked(folder, progress):
        yield Change(Repository.read(folder), key_ring(folder, keys), progress)


def key_ring(folder: Path, keys: list[Path] | None) -> "KeyRing":
    """The keys in the folders given, or in the one beside the channel. Raises PublishError."""
    from edgewise_cloud.channel.keys import KeyRing, default_keys, require_outside

    folders = keys or [default_keys(folder)]
    for each in folders:
        require_outside(each, folder)
    return KeyRing.read(folders)


def _role_names(names: list[str] | None) -> tuple[Any, ...]:
    from edgewise_cloud.channel.metadata import RoleName

    for name in names or ():
        if name not in ROLES:
            raise typer.BadParameter(
                f"{name!r} is none of {', '.join(ROLES)}", param_hint="'--role'"
            )
    return tuple(role for role in RoleName if role in (names or ()))


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
