"""What a channel holds, until when it is signed, and which of its keys are here."""

from typing import Any

from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import RoleName
from edgewise_cloud.channel.repository import Repository
from edgewise_edge.installed.channel_index import IndexedRevision


def describe(repository: Repository, keys: KeyRing) -> dict[str, Any]:
    """As JSON: its models' revisions, oldest first, and its roles."""
    return {
        "channel": str(repository.folder),
        "models": {
            name: [_revision(each) for each in revisions]
            for name, revisions in repository.index.models.items()
        },
        "roles": {role: _role(repository, keys, role) for role in RoleName},
    }


def as_text(described: dict[str, Any]) -> str:
    """The same for people."""
    lines = [described["channel"]]
    for name, revisions in described["models"].items():
        lines += [f"{name}:", *(f"  {_line(each)}" for each in revisions)]
    if not described["models"]:
        lines.append("no models; add one with 'edgewise-cloud publish MODEL_FOLDER --channel DIR'")
    lines.append("signed:")
    lines += [f"  {_role_line(role, each)}" for role, each in described["roles"].items()]
    return "\n".join(lines)


def _revision(revision: IndexedRevision) -> dict[str, Any]:
    return {
        "number": revision.number,
        "revision": revision.revision,
        "published": revision.published,
        "size": revision.size,
        "memory": revision.memory,
        "rollout": revision.rollout,
        "revoked": revision.revoked,
        "requires": revision.requires,
        "deltas": [{"from": delta.from_[:12], "size": delta.size} for delta in revision.deltas],
    }


def _role(repository: Repository, keys: KeyRing, role: RoleName) -> dict[str, Any]:
    key_ids, threshold = repository.roles.keys_of(role)
    return {
        "version": repository.roles.of(role).signed.version,
        "days_left": round(repository.roles.days_left(role), 1),
        "keys": len(key_ids),
        "threshold": threshold,
        "here": [str(key.path) for key in keys.of(key_ids)],
    }


def _line(revision: dict[str, Any]) -> str:
    deltas = ", ".join(
        f"{each['size'] / 1e6:.1f} MB from {each['from']}" for each in revision["deltas"]
    )
    parts = [
        f"{revision['number']}  {revision['revision']}",
        revision["published"],
        f"{revision['size'] / 1e6:.1f} MB",
        f"deltas: {deltas}" if deltas else "no deltas",
        f"for {revision['rollout']:g} % of devices",
        f"REVOKED: {revision['revoked']}" if revision["revoked"] else "",
    ]
    return " · ".join(filter(None, parts))


def _role_line(role: str, described: dict[str, Any]) -> str:
    days = described["days_left"]
    left = f"{days:.0f} days left" if days >= 1 else "less than a day left"
    here = ", ".join(described["here"]) or "none of its keys is here"
    return (
        f"{role:<9} version {described['version']}, {left if days > 0 else 'EXPIRED'}, "
        f"{described['threshold']} of {described['keys']} keys must sign: {here}"
    )
