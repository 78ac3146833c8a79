"""Making a channel: its keys, its root, and an empty index."""

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root

from edgewise_cloud.channel.keys import KeyFile, require_outside
from edgewise_cloud.channel.metadata import CONTENT, METADATA, RoleName, SignedRoles
from edgewise_cloud.channel.repository import TARGETS, Repository
from edgewise_cloud.errors import PublishError, PublishFailedError
from edgewise_cloud.files import durable_write
from edgewise_edge.installed.channel_index import Index

DEFAULT_DAYS = {
    RoleName.ROOT: 365,
    RoleName.TARGETS: 90,
    RoleName.SNAPSHOT: 14,
    RoleName.TIMESTAMP: 7,
}


@dataclass(frozen=True, slots=True)
class NewChannel:
    """What `create_channel` made."""

    folder: Path
    root: Path  # the file that devices get at set-up
    root_sha256: str
    keys: tuple[Path, ...]  # the root's first


def create_channel(
    folder: Path,
    keys: Path,
    *,
    root_keys: int = 2,
    root_threshold: int = 1,
    days: dict[RoleName, int] | None = None,
) -> NewChannel:
    """Make new keys in the folder `keys` and an empty channel in `folder`.

    `folder` appears whole, after the keys. Raises PublishError if either exists with files in it,
    if `keys` is inside `folder`, or for a threshold above the number of keys; PublishFailedError
    where they cannot be written.
    """
    if root_threshold > root_keys:
        raise PublishError(
            f"--root-threshold is {root_threshold}, more than the {root_keys} of --root-keys; "
            "nobody could sign the next root"
        )
    require_outside(keys, folder)
    _require_new(folder)
    _require_no_keys(keys)
    try:
        made = _make_keys(keys, root_keys)
        root = _root(made, root_threshold)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as workspace:
            partial = Path(workspace) / folder.name
            _write(partial, SignedRoles.new(root, DEFAULT_DAYS | (days or {})), made)
            if folder.exists():
                folder.rmdir()  # empty
            partial.rename(folder)
    except OSError as error:
        raise PublishFailedError(
            f"{error.filename or folder} cannot be written: {error.strerror or error}; remove what "
            f"was made in {keys}, and run the command again"
        ) from error
    path = folder / METADATA / "1.root.json"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return NewChannel(
        folder, path, digest, tuple(key.path for role in made.values() for key in role)
    )


def _write(folder: Path, roles: SignedRoles, keys: dict[RoleName, list[KeyFile]]) -> None:
    signers = {role: [key.signer for key in made] for role, made in keys.items()}
    for part in (METADATA, TARGETS):
        (folder / part).mkdir(parents=True)
    durable_write(
        folder / METADATA / "1.root.json", roles.renew(RoleName.ROOT, signers[RoleName.ROOT])
    )
    Repository(folder, roles, Index()).commit({role: signers[role] for role in CONTENT})


def _make_keys(folder: Path, root_keys: int) -> dict[RoleName, list[KeyFile]]:
    root = [KeyFile.generate(folder, f"root-{number + 1}.pem") for number in range(root_keys)]
    return {RoleName.ROOT: root} | {
        role: [KeyFile.generate(folder, f"{role}.pem")] for role in CONTENT
    }


def _root(keys: dict[RoleName, list[KeyFile]], threshold: int) -> Root:
    root = Root(consistent_snapshot=True)
    for role, made in keys.items():
        for key in made:
            root.add_key(key.signer.public_key, role)
    root.roles[RoleName.ROOT].threshold = threshold
    return root


def _require_new(folder: Path) -> None:
    if (folder / METADATA).exists():
        raise PublishError(f"{folder} is a channel already; publish to it, or give a new folder")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise PublishError(f"{folder} exists already and is not an empty folder; give a new one")


def _require_no_keys(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise PublishError(f"--keys is {folder}, which is no folder; give a new one")
    if found := sorted(folder.glob("*.pem")):
        raise PublishError(
            f"{found[0]} exists, and keys are never overwritten; give another --keys, or remove the "
            "folder if no channel uses its keys"
        )
