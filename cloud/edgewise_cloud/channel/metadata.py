"""A channel's signed metadata: the four roles of TUF, read, verified, renewed and signed."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from edgewise_cloud.errors import PublishError

METADATA = "metadata"
TIMESTAMP_FILE = "timestamp.json"
# Each role carries how long its next version is valid, so that cron needs no options.
DAYS = "x-edgewise-days"
_TARGETS_META, _SNAPSHOT_META = "targets.json", "snapshot.json"


class RoleName(StrEnum):
    """The four top-level roles of TUF."""

    ROOT = "root"
    TARGETS = "targets"
    SNAPSHOT = "snapshot"
    TIMESTAMP = "timestamp"


ONLINE = (RoleName.SNAPSHOT, RoleName.TIMESTAMP)  # what cron renews
CONTENT = (RoleName.TARGETS, *ONLINE)  # what a changed index needs


@dataclass(slots=True)
class SignedRoles:
    """The metadata that a channel's timestamp refers to, and the newest root."""

    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    @classmethod
    def new(cls, root: Root, days: dict[RoleName, int]) -> Self:
        """Those of an empty channel, unsigned, at version 0."""
        roles = cls(
            Metadata(root), Metadata(Targets()), Metadata(Snapshot()), Metadata(Timestamp())
        )
        for role in RoleName:
            signed = roles.of(role).signed
            signed.version, signed.unrecognized_fields[DAYS] = 0, days[role]
        return roles

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and verify those of the channel in `folder`; they may have expired.

        A publisher must not sign what somebody else has put there. Raises PublishError.
        """
        metadata = folder / METADATA
        try:
            if not (metadata / "1.root.json").exists():
                raise PublishError(
                    f"{folder} is no channel: it has no {METADATA}/1.root.json; make one with "
                    f"'edgewise-cloud channel init {folder}'"
                )
            return cls._read(metadata)
        except OSError as error:
            raise PublishError(
                f"{folder} cannot be read: {error.filename}: {error.strerror}"
            ) from error
        except (RepositoryError, KeyError, ValueError) as error:
            raise PublishError(
                f"{folder}: its metadata is damaged or was changed by somebody else ({error}); "
                "restore the folder from a copy"
            ) from error

    @classmethod
    def _read(cls, metadata: Path) -> Self:
        root = _newest_root(metadata)
        timestamp: Metadata[Timestamp] = Metadata.from_file(str(metadata / TIMESTAMP_FILE))
        _verify(root, timestamp)
        record = timestamp.signed.snapshot_meta
        data = (metadata / f"{record.version}.{_SNAPSHOT_META}").read_bytes()
        record.verify_length_and_hashes(data)
        snapshot: Metadata[Snapshot] = Metadata.from_bytes(data)
        _verify(root, snapshot)
        record = snapshot.signed.meta[_TARGETS_META]
        data = (metadata / f"{record.version}.{_TARGETS_META}").read_bytes()
        record.verify_length_and_hashes(data)
        targets: Metadata[Targets] = Metadata.from_bytes(data)
        _verify(root, targets)
        return cls(root, targets, snapshot, timestamp)

    def of(self, role: RoleName) -> Metadata[Any]:
        """The metadata of `role`."""
        metadata: Metadata[Any] = getattr(self, role)
        return metadata

    def keys_of(self, role: RoleName) -> tuple[list[str], int]:
        """The ids of a role's keys, and how many of them must sign."""
        found = self.root.signed.roles[role]
        return found.keyids, found.threshold

    def days_left(self, role: RoleName) -> float:
        """Days until the metadata of `role` expires; below 0 after that."""
        expires: datetime = self.of(role).signed.expires
        return (expires - datetime.now(UTC)) / timedelta(days=1)

    def renew(self, role: RoleName, signers: Iterable[CryptoSigner]) -> bytes:
        """The next version of `role`, valid as long as it was made to be; its file's bytes.

        The snapshot refers to the targets, and the timestamp to the snapshot, as they are renewed.
        """
        metadata = self.of(role)
        metadata.signed.version += 1
        metadata.signed.expires = _in_days(metadata.signed.unrecognized_fields[DAYS])
        metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes()
        record = MetaFile.from_data(metadata.signed.version, data, ["sha256"])
        if role is RoleName.TARGETS:
            self.snapshot.signed.meta[_TARGETS_META] = record
        elif role is RoleName.SNAPSHOT:
            self.timestamp.signed.snapshot_meta = record
        return data


def file_name(role: RoleName, version: int) -> str:
    """The name of a role's file; only the timestamp's is always the same."""
    return TIMESTAMP_FILE if role is RoleName.TIMESTAMP else f"{version}.{role}.json"


def _newest_root(metadata: Path) -> Metadata[Root]:
    """The last of the chain of roots, verified against the one before it."""
    root: Metadata[Root] = Metadata.from_file(str(metadata / "1.root.json"))
    before: Metadata[Root] | None = None
    while (path := metadata / f"{root.signed.version + 1}.root.json").exists():
        before, root = root, Metadata.from_file(str(path))
    previous = before.signed if before else None
    if not root.signed.get_root_verification_result(previous, root.signed_bytes, root.signatures):
        raise ValueError(f"root {root.signed.version} is not signed by enough keys")
    return root


def _verify(root: Metadata[Root], metadata: Metadata[Any]) -> None:
    root.signed.verify_delegate(metadata.signed.type, metadata.signed_bytes, metadata.signatures)


def _in_days(days: int) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
