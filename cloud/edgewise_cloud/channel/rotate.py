"""New keys for a channel: the next root, signed by the old root's keys and its own."""

from dataclasses import dataclass
from pathlib import Path

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Root

from edgewise_cloud.channel.keys import KeyFile, KeyRing
from edgewise_cloud.channel.metadata import CONTENT, RoleName
from edgewise_cloud.channel.repository import Repository, write_errors


@dataclass(frozen=True, slots=True)
class Rotation:
    """What `rotate_keys` did."""

    root: Path  # the new one
    root_version: int
    new: tuple[Path, ...]
    old: tuple[Path, ...]  # no longer trusted, as far as they are here


def rotate_keys(repository: Repository, keys: KeyRing, roles: tuple[RoleName, ...]) -> Rotation:
    """Replace all keys of `roles` with as many new ones, in files of new names.

    The other metadata is signed with the old and the new keys before the new root appears, so that
    devices can verify it before and after; only where an old key is lost, there is a moment in which
    they cannot, and they try again later. Raises PublishError if too few keys are here to sign the
    root, and to renew what the new keys must sign, and PublishFailedError where they cannot be
    written.
    """
    roles_now, root = repository.roles, repository.roles.root.signed
    before = keys.required(RoleName.ROOT, *roles_now.keys_of(RoleName.ROOT))
    # What is signed with new keys changes, and so does what refers to it.
    first = min((CONTENT.index(role) for role in roles if role in CONTENT), default=len(CONTENT))
    kept = repository.signers(keys, [role for role in CONTENT[first:] if role not in roles])
    old = {role: keys.of(roles_now.keys_of(role)[0]) for role in roles}
    with write_errors(keys.folders[0]):
        new = {role: _replace(root, role, keys) for role in roles}
    data = roles_now.renew(RoleName.ROOT, [*before, *_signers(new.get(RoleName.ROOT, []))])
    both = {role: [*_signers(old[role]), *_signers(new[role])] for role in new}
    repository.commit({role: kept.get(role) or both[role] for role in CONTENT[first:]})
    return Rotation(repository.write_root(data), root.version, _paths(new), _paths(old))


def renew_root(repository: Repository, keys: KeyRing) -> Path:
    """The next root with the same keys, valid for longer. Raises as rotate_keys()."""
    signers = repository.signers(keys, [RoleName.ROOT])[RoleName.ROOT]
    return repository.write_root(repository.roles.renew(RoleName.ROOT, signers))


def _replace(root: Root, role: RoleName, keys: KeyRing) -> list[KeyFile]:
    """Replace the keys of `role` in `root`; the new ones, which lie where the old ones do."""
    old = list(root.roles[role].keyids)
    folder = keys.folder_of(old)
    new = [KeyFile.generate(folder, f"{role}-{{id}}.pem") for _ in old]
    for key in new:
        root.add_key(key.signer.public_key, role)
    for key_id in old:
        root.revoke_key(key_id, role)
    return new


def _signers(keys: list[KeyFile]) -> list[CryptoSigner]:
    return [key.signer for key in keys]


def _paths(keys: dict[RoleName, list[KeyFile]]) -> tuple[Path, ...]:
    return tuple(key.path for made in keys.values() for key in made)
