"""Where everything lies in the store, with every name checked before it becomes a path.

lock  device-id  metadata/           metadata: what is known of channels
blobs/sha256-HEX                     each file once
partial/HEX.part  HEX.json           downloads that have not ended, and their journals
models/NAME/state.json
models/NAME/REVISION/                a model folder: further names of blobs
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgewise_edge.checks import check_sha256, shown
from edgewise_edge.errors import StoreError
from edgewise_edge.store.active import STATE_FILE, distrust, is_folder, is_name, is_revision


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of the store at `root`. Each call raises StoreError for a name that is none."""

    root: Path

    @property
    def models(self) -> Path:
        """A folder for each name."""
        return self.root / "models"

    @property
    def blobs(self) -> Path:
        """Whole files."""
        return self.root / "blobs"

    @property
    def partials(self) -> Path:
        """Files that are being downloaded."""
        return self.root / "partial"

    def model(self, name: str) -> Path:
        """The folder of all revisions of `name`."""
        if not is_name(name):
            raise StoreError(
                f"a model cannot be called {shown(name)}: a name has 1 to 64 letters, digits, '.', "
                "'_' and '-', and starts with a letter or a digit"
            )
        return self.models / name

    def state(self, name: str) -> Path:
        """The state of `name`."""
        return self.model(name) / STATE_FILE

    def revision(self, name: str, revision: str) -> Path:
        """The model folder of one revision."""
        if not is_revision(revision):
            raise StoreError(
                f"a revision cannot be called {shown(revision)}: it has 1 to 64 letters, digits, "
                "'.', '_' and '-', and starts with a letter or a digit"
            )
        return self.model(name) / revision

    def blob(self, sha256: str) -> Path:
        """A whole file."""
        return self.blobs / f"sha256-{_checked(sha256)}"

    def partial(self, sha256: str) -> Path:
        """The first bytes of one."""
        return self.partials / f"{_checked(sha256)}.part"

    def names(self) -> Iterator[str]:
        """Of the models in the store."""
        return (path.name for path in _folders(self.models) if is_name(path.name))

    def revisions(self, name: str) -> Iterator[str]:
        """Of a model, whether they can be used or not."""
        return (path.name for path in _folders(self.model(name)) if is_revision(path.name))

    def require_ours(self) -> None:
        """Raise StoreError unless the store is this user's own, and no folder of it is a link."""
        reason = distrust(self.root)
        if not reason and hasattr(os, "geteuid") and self.root.stat().st_uid != os.geteuid():
            reason = "it belongs to another user"
        for folder in (self.models, self.blobs, self.partials, *_entries(self.models)):
            if not reason and folder.is_symlink():
                reason = f"{folder} is a link"
        if reason:
            raise StoreError(
                f"nothing is written to the store of models at {self.root}: {reason}; or name "
                "another folder with EDGEWISE_STORE"
            )


def _checked(sha256: str) -> str:
    check_sha256("sha256", sha256, StoreError)
    return sha256


def _folders(parent: Path) -> Iterator[Path]:
    return (path for path in _entries(parent) if is_folder(path))


def _entries(parent: Path) -> list[Path]:
    try:
        return sorted(parent.iterdir()) if is_folder(parent) else []
    except OSError:
        return []
