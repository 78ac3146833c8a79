"""`edgewise-cloud channel refresh` and `channel rotate-keys`."""

from json import dumps
from shlex import join
from typing import Annotated

from edgewise_cloud.channel.cli.shared import (
    Folder,
    Json,
    Keys,
    changing,
    role_names,
    roles_option,
)
from edgewise_cloud.console import say


def refresh(
    folder: Folder,
    keys: Keys = None,
    role: Annotated[
        list[str] | None, roles_option("Also renew this role", "snapshot and timestamp")
    ] = None,
    json: Json = False,
) -> None:
    """Renew the signatures that expire soonest; run it by cron, daily.

    Example: edgewise-cloud channel refresh models-channel
    """
    from edgewise_cloud.channel.changes import expiring, refresh
    from edgewise_cloud.channel.metadata import ONLINE

    roles = role_names(role)
    with changing(folder, keys) as change:
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


def rotate_keys(
    folder: Folder,
    keys: Keys = None,
    role: Annotated[list[str] | None, roles_option("Whose keys to replace", "all")] = None,
    json: Json = False,
) -> None:
    """Replace keys: devices follow from the old root to the new one. Needs the root's keys.

    Example: edgewise-cloud channel rotate-keys models-channel --keys /media/stick --role timestamp
    """
    from edgewise_cloud.channel.metadata import RoleName
    from edgewise_cloud.channel.rotate import rotate_keys

    with changing(folder, keys) as change:
        done = rotate_keys(change.repository, change.keys, role_names(role) or tuple(RoleName))
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
