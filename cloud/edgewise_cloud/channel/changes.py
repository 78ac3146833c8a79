"""Changes to what is published: signatures renewed, revisions revoked, roll-outs widened."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT, ONLINE, RoleName
from edgewise_cloud.channel.repository import Repository
from edgewise_cloud.channel.rotate import renew_root
from edgewise_cloud.errors import PublishError
from edgewise_edge.installed.channel_index import Index, IndexedRevision

SOON = 30.0  # days; a root or targets that expire sooner are warned of


def refresh(repository: Repository, keys: KeyRing, roles: Sequence[RoleName] = ONLINE) -> None:
    """Renew the signatures of `roles`, and of what refers to them. Raises PublishError."""
    wanted = [role for role in CONTENT if role in roles or role in ONLINE]
    signers = repository.signers(keys, wanted)  # before anything is written
    if RoleName.ROOT in roles:
        renew_root(repository, keys)
    repository.commit(signers)


def revoke(
    repository: Repository, keys: KeyRing, revision: str, reason: str, name: str | None = None
) -> IndexedRevision:
    """Tell devices not to use a revision, and those that do to go back. Raises PublishError."""
    if not (reason and reason.isprintable()):
        raise PublishError(f"--reason is {reason!r}; it must be one line of text for people")
    return _change(repository, keys, revision, name, revoked=reason)


def set_rollout(
    repository: Repository, keys: KeyRing, revision: str, percent: float, name: str | None = None
) -> IndexedRevision:
    """Offer a revision to this share of devices. Raises PublishError."""
    return _change(repository, keys, revision, name, rollout=percent)


def expiring(repository: Repository) -> list[str]:
    """A sentence for each role that cron does not renew and that expires soon."""
    return [
        f"{role} expires in {max(days, 0):.0f} days: renew it with 'edgewise-cloud channel refresh "
        f"{repository.folder} --role {role}', for which its keys must be here"
        for role in (RoleName.ROOT, RoleName.TARGETS)
        if (days := repository.roles.days_left(role)) < SOON
    ]


def _change(
    repository: Repository, keys: KeyRing, revision: str, name: str | None, **changes: Any
) -> IndexedRevision:
    signers = repository.signers(keys, CONTENT)
    found = _model_with(repository.index, revision, name)
    revisions = repository.index.models[found]
    changed = tuple(
        replace(each, **changes) if each.revision == revision else each for each in revisions
    )
    repository.index = Index({**repository.index.models, found: changed})
    repository.commit(signers)
    return next(each for each in changed if each.revision == revision)


def _model_with(index: Index, revision: str, name: str | None) -> str:
    """The name of the model that has `revision`; `name` chooses where several have it."""
    names = [each for each in index.models if index.find(each, revision)]
    if name is not None and name in names:
        return name
    if len(names) == 1 and name is None:
        return names[0]
    if not names or name is not None:
        of = f"{name!r} has" if name is not None else "no model of this channel has"
        raise PublishError(
            f"{of} {'no' if name is not None else 'a'} revision {revision!r}; "
            "'edgewise-cloud channel show' lists them"
        )
    raise PublishError(
        f"revision {revision} is of {' and '.join(names)}; choose one of them with --name"
    )
