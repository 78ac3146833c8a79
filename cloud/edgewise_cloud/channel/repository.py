"""A channel's folder: its files, its index, and changes that devices see whole or not at all.

A change writes new files under new names, then the metadata, and the timestamp last: it is the one
file that is replaced. A device that reads meanwhile, or after a crash at any step, sees the state
before or the one after.
"""

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import TargetFile

from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import METADATA, RoleName, SignedRoles, file_name
from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.errors import PublishError, PublishFailedError
from edgewise_cloud.files import durable_write, sync_folder
from edgewise_edge.installed.channel_index import INDEX_FILE, Index
from edgewise_edge.store.manifest import FileRecord

TARGETS = "targets"
LOCK_FILE = ".lock"
LOCK_TIMEOUT = 20.0  # seconds: longer than any change but a publication
Signers = dict[RoleName, list[CryptoSigner]]


@dataclass(slots=True)
class Repository:
    """A channel's folder, and what its metadata says of it."""

    folder: Path
    roles: SignedRoles
    index: Index

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read and verify the channel in `folder`. Raises PublishError."""
        repository = cls(folder, SignedRoles.read(folder), Index())
        try:
            repository.index = Index.parse(repository.read_target(INDEX_FILE))
        except ValueError as error:
            raise PublishError(f"{folder}: its {INDEX_FILE} cannot be read: {error}") from error
        return repository

    def path_of(self, target: str) -> Path:
        """Where the file of a target lies. Raises PublishError if there is no such target."""
        try:
            record = self.roles.targets.signed.targets[target]
        except KeyError:
            raise PublishError(f"{self.folder} has no target {target}") from None
        return _file(self.folder, target, record.hashes["sha256"])

    def read_target(self, target: str) -> bytes:
        """The verified bytes of a target. Raises PublishError."""
        path = self.path_of(target)
        try:
            data = path.read_bytes()
            self.roles.targets.signed.targets[target].verify_length_and_hashes(data)
        except Exception as error:
            raise PublishError(
                f"{path} is missing or damaged; restore it from a copy of the channel"
            ) from error
        return data

    def signers(self, keys: KeyRing, roles: Sequence[RoleName]) -> Signers:
        """The signers of `roles`. Raises PublishError if too few of their keys are here."""
        return {role: keys.required(role, *self.roles.keys_of(role)) for role in roles}

    def add(self, target: str, content: bytes | Path) -> None:
        """Write a target's file, and name it in the metadata that the next commit signs.

        Raises OSError. What lies there under that name is the same content.
        """
        if isinstance(content, Path):
            record = FileRecord.of(content)
        else:
            record = FileRecord(len(content), hashlib.sha256(content).hexdigest())
        info = TargetFile(record.size, {"sha256": record.sha256}, target)
        path = _file(self.folder, target, record.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.exists() and FileRecord.of(path) == record):
            _copy(content, path) if isinstance(content, Path) else durable_write(path, content)
        self.roles.targets.signed.targets[target] = info

    def commit(self, signers: Signers) -> None:
        """Renew the roles that `signers` has, after writing the index if it has the targets.

        Raises PublishFailedError where the disk is full, for example; devices then see what they
        saw before.
        """
        metadata = self.folder / METADATA
        with write_errors(self.folder):
            metadata.mkdir(parents=True, exist_ok=True)
            if RoleName.TARGETS in signers:
                self.add(INDEX_FILE, self.index.to_json())
            for role in (RoleName.TARGETS, RoleName.SNAPSHOT, RoleName.TIMESTAMP):
                if role in signers:
                    data = self.roles.renew(role, signers[role])
                    name = file_name(role, self.roles.of(role).signed.version)
                    durable_write(metadata / name, data)

    def write_root(self, data: bytes) -> Path:
        """Write the renewed root, which devices look for first. Raises PublishFailedError."""
        version = self.roles.root.signed.version
        path = self.folder / METADATA / file_name(RoleName.ROOT, version)
        with write_errors(self.folder):
            durable_write(path, data)
        return path


def _file(folder: Path, target: str, sha256: str) -> Path:
    """By TUF's consistent snapshots: the hash before the last part of the name."""
    parent, _, name = f"/{target}".rpartition("/")
    return folder / TARGETS / parent.lstrip("/") / f"{sha256}.{name}"


def _copy(source: Path, path: Path) -> None:
    partial = path.with_name("partial")
    try:
        shutil.copyfile(source, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


@contextmanager
def write_errors(folder: Path) -> Iterator[None]:
    """Raise PublishFailedError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise PublishFailedError(
            f"{folder} cannot be written: {error.strerror or error}; devices see what they saw "
            "before: make room or correct the folder's permissions, and run the command again"
        ) from error


@contextmanager
def locked(
    folder: Path, progress: Progress = SILENT, timeout: float | None = None
) -> Iterator[None]:
    """Hold the channel's lock, which the kernel releases if this process is killed.

    Raises PublishError if `folder` is no channel, PublishFailedError if another process holds the
    lock for `timeout` seconds, LOCK_TIMEOUT by default.
    """
    if not (folder / METADATA).is_dir():
        SignedRoles.read(folder)  # says that it is no channel
    with write_errors(folder):
        file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    with file:
        due = time.monotonic() + (LOCK_TIMEOUT if timeout is None else timeout)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                file.seek(0)
                holder = file.read(20).strip() or "unknown"
                progress.step(f"waiting for process {holder}, which changes {folder}")
                if time.monotonic() >= due:
                    raise PublishFailedError(
                        f"{folder} is locked: process {holder} changes it; run the command again "
                        "when that one has ended"
                    ) from None
                time.sleep(0.05)
        with write_errors(folder):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        yield
