"""A small signed channel in a folder, made with python-tuf: for tests of those who read it.

Its parts can be signed by any keys, so that tests can attack it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

ROLES = ("root", "timestamp", "snapshot", "targets")


def new_keys(threshold: int = 1) -> dict[str, list[CryptoSigner]]:
    """As many keys for each role."""
    return {role: [CryptoSigner.generate_ed25519() for _ in range(threshold)] for role in ROLES}


@dataclass
class SignedChannel:
    """The channel in `folder`. Change what is to change, then `publish`."""

    folder: Path
    threshold: int = 1
    keys: dict[str, list[CryptoSigner]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)  # by target path
    versions: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROLES, 0))
    lifetime: dict[str, timedelta] = field(
        default_factory=lambda: dict.fromkeys(ROLES, timedelta(days=30))
    )
    signers: dict[str, list[CryptoSigner]] = field(default_factory=dict)  # instead of `keys`

    def __post_init__(self) -> None:
        """Make the first root."""
        self.keys = self.keys or new_keys(self.threshold)
        (self.folder / "metadata").mkdir(parents=True)
        self.rotate()

    @property
    def root(self) -> bytes:
        """The first root.json."""
        return (self.folder / "metadata/1.root.json").read_bytes()

    def rotate(
        self,
        keys: dict[str, list[CryptoSigner]] | None = None,
        signed_by: Iterable[CryptoSigner] | None = None,
    ) -> None:
        """The next root with these keys, signed by the old and the new ones, or by `signed_by`."""
        old, self.keys = self.keys, {**self.keys, **(keys or {})}
        root = Root(
            version=self._next("root"), expires=self._expires("root"), consistent_snapshot=True
        )
        for role in ROLES:
            root.roles[role].threshold = self.threshold
            for signer in self.keys[role]:
                root.add_key(signer.public_key, role)
        default = [*old["root"], *(key for key in self.keys["root"] if key not in old["root"])]
        self._write("root", f"{root.version}.root.json", root, list(signed_by or default))

    def publish(self, index: dict[str, Any] | bytes | None = None) -> None:
        """Write the files, and metadata for them."""
        if index is not None:
            raw = index if isinstance(index, bytes) else json.dumps(index).encode()
            self.files["index.json"] = raw
        targets = Targets(version=self._next("targets"), expires=self._expires("targets"))
        for path, content in self.files.items():
            targets.targets[path] = TargetFile.from_data(path, content, ["sha256"])
            parent, _, name = path.rpartition("/")
            full = (
                self.folder / "targets" / parent / f"{hashlib.sha256(content).hexdigest()}.{name}"
            )
            full.parent.mkdir(parents=True, exist_ok=True)
            full.write_bytes(content)
        self._write("targets", f"{targets.version}.targets.json", targets)
        snapshot = Snapshot(version=self._next("snapshot"), expires=self._expires("snapshot"))
        snapshot.meta["targets.json"] = MetaFile(version=targets.version)
        content = self._write("snapshot", f"{snapshot.version}.snapshot.json", snapshot)
        timestamp = Timestamp(version=self._next("timestamp"), expires=self._expires("timestamp"))
        timestamp.snapshot_meta = MetaFile.from_data(snapshot.version, content, ["sha256"])
        self._write("timestamp", "timestamp.json", timestamp)

    def _next(self, role: str) -> int:
        self.versions[role] += 1
        return self.versions[role]

    def _expires(self, role: str) -> datetime:
        return (datetime.now(UTC) + self.lifetime[role]).replace(microsecond=0)

    def _write(
        self, role: str, name: str, signed: Any, signers: list[CryptoSigner] | None = None
    ) -> bytes:
        metadata = Metadata(signed)
        for signer in signers or self.signers.get(role, self.keys[role]):
            metadata.sign(signer, append=True)
        content: bytes = metadata.to_bytes(JSONSerializer())
        (self.folder / "metadata" / name).write_bytes(content)
        return content


def revision(number: int = 1, **fields: Any) -> dict[str, Any]:
    """One entry of an index."""
    return {
        "number": number,
        "revision": f"r{number}",
        "published": "2026-01-01T00:00:00+00:00",
        "size": 10,
        "memory": 10,
        "vocabulary": "0" * 64,
        **fields,
    }


def index(*revisions: dict[str, Any], name: str = "tales") -> dict[str, Any]:
    """An index of one model."""
    return {"format": 1, "models": {name: {"revisions": list(revisions)}}}
