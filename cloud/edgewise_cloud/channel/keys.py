"""Private keys: ed25519, one PKCS8 PEM file each, in folders that are not served."""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, SSlibKey

from edgewise_cloud.errors import PublishError
from edgewise_cloud.files import durable_write

_MAX_BYTES = 2**14  # of a key's file; an ed25519 key has 119


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A private key and where it lies."""

    path: Path
    signer: CryptoSigner

    @property
    def key_id(self) -> str:
        """The id of its public key, as in the root."""
        return self.signer.public_key.keyid

    @property
    def exposed(self) -> bool:
        """Whether other users of this machine can read it."""
        return bool(self.path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))

    @classmethod
    def generate(cls, folder: Path, name: str) -> Self:
        """A new key, written to `folder`, readable by this user only. Raises OSError.

        `{id}` in `name` becomes the beginning of the key's id, so that it is no other key's name.
        """
        signer = CryptoSigner.generate_ed25519()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / name.format(id=signer.public_key.keyid[:8])
        durable_write(path, signer.private_bytes, mode=0o600)
        return cls(path, signer)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """The key at `path`; None where there is none that can be used."""
        try:
            with path.open("rb") as file:
                private = load_pem_private_key(file.read(_MAX_BYTES), None)
        except (OSError, TypeError, ValueError, UnsupportedAlgorithm):
            return None  # a certificate, or a key with a passphrase
        if not isinstance(private, Ed25519PrivateKey):
            return None
        public = SSlibKey.from_crypto(private.public_key())
        return cls(path, CryptoSigner(private, public))


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The keys that lie in some folders, by id. Keys that are offline are just not in it."""

    folders: tuple[Path, ...]
    by_id: dict[str, KeyFile]

    @classmethod
    def read(cls, folders: Iterable[Path]) -> Self:
        """All keys in the `*.pem` files of `folders`; a folder may be missing."""
        folders = tuple(folders)
        found = [KeyFile.read(path) for folder in folders for path in sorted(folder.glob("*.pem"))]
        return cls(folders, {key.key_id: key for key in found if key})

    def of(self, key_ids: Iterable[str]) -> list[KeyFile]:
        """The keys with these ids that are here."""
        return [self.by_id[key_id] for key_id in key_ids if key_id in self.by_id]

    def folder_of(self, key_ids: Iterable[str]) -> Path:
        """Where new keys belong that replace these: where those lie, else the first folder."""
        return next((key.path.parent for key in self.of(key_ids)), self.folders[0])

    def required(self, role: str, key_ids: Sequence[str], threshold: int) -> list[CryptoSigner]:
        """The signers of `role`. Raises PublishError if fewer than its threshold are here."""
        found = self.of(key_ids)
        if len(found) < threshold:
            raise PublishError(
                f"'{role}' must be signed with {threshold} of its {len(key_ids)} keys, and "
                f"{len(found)} of them {'is' if len(found) == 1 else 'are'} in "
                f"{' or '.join(map(str, self.folders))}; give the folder with the others by --keys, "
                "too"
            )
        return [key.signer for key in found]


def default_keys(channel: Path) -> Path:
    """The folder for the keys of `channel` where none is given: beside it."""
    channel = channel.absolute()
    return channel.with_name(f"{channel.name}-keys")


def require_outside(keys: Path, channel: Path) -> None:
    """Raise PublishError for keys that would be served with the channel."""
    if Path(os.path.realpath(keys)).is_relative_to(os.path.realpath(channel)):
        raise PublishError(
            f"--keys is {keys}, inside the channel {channel}, where everybody could read the private "
            "keys; give a folder elsewhere"
        )
