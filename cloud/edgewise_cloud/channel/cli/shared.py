"""What the commands of a channel share: options, its keys, and its lock."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgewise_cloud.console import Progress, say, shown_progress

if TYPE_CHECKING:  # a command line that only prints its help need not import them
    from edgewise_cloud.channel.keys import KeyRing
    from edgewise_cloud.channel.repository import Repository

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


def roles_option(help_: str, default: str) -> Any:
    """The option --role, which may be given several times."""
    return typer.Option(
        "--role",
        metavar="ROLE",
        help=f"{help_}; may be given several times: {', '.join(ROLES)}.",
        show_default=default,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """A channel that is locked for a change, and the keys that may sign it."""

    repository: "Repository"
    keys: "KeyRing"
    progress: Progress


@contextmanager
def changing(folder: Path, keys: list[Path] | None) -> Iterator[Change]:
    """The channel in `folder`, locked, with its progress shown. Raises PublishError."""
    from edgewise_cloud.channel.repository import Repository, locked

    with shown_progress() as progress, locked(folder, progress):
        yield Change(Repository.read(folder), key_ring(folder, keys), progress)


def key_ring(folder: Path, keys: list[Path] | None) -> "KeyRing":
    """The keys in the folders given, or in the one beside the channel. Raises PublishError."""
    from edgewise_cloud.channel.keys import KeyRing, default_keys, require_outside

    folders = keys or [default_keys(folder)]
    for each in folders:
        require_outside(each, folder)
    ring = KeyRing.read(folders)
    for key in ring.by_id.values():
        if key.exposed:
            say(f"note: other users can read {key.path}: chmod 600 it", style="yellow")
    return ring


def role_names(names: list[str] | None) -> tuple[Any, ...]:
    """The values of --role as RoleName, in TUF's order. Raises BadParameter."""
    from edgewise_cloud.channel.metadata import RoleName

    for name in names or ():
        if name not in ROLES:
            raise typer.BadParameter(
                f"{name!r} is none of {', '.join(ROLES)}", param_hint="'--role'"
            )
    return tuple(role for role in RoleName if role in (names or ()))
