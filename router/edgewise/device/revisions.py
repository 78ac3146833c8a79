"""Which revisions of a model are on this device: what the store says, and the bundled one."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edgewise_edge.store.active import STATE_FILE, installed_folders, store_root
from edgewise_edge.store.catalog import BUNDLED, bundled_models

if TYPE_CHECKING:
    from edgewise_edge.installed.state import ModelState
    from edgewise_edge.installed.store import ModelStore

Stamp: TypeAlias = tuple[int, int, int] | None  # of the state file, which is replaced as it changes


class Revisions:
    """Those of the model `name`, in the store at `root` (default: EDGEWISE_STORE's)."""

    def __init__(self, name: str, root: Path | None = None) -> None:
        self.name, self.root = name, root or store_root()
        self._state_file = str(self.root / "models" / name / STATE_FILE)

    @property
    def bundled(self) -> bool:
        """Whether one of them came with the package."""
        return self.name in bundled_models()

    def stamp(self) -> Stamp:
        """Differs from the last one when the state has changed; None: nothing is installed."""
        try:
            found = os.stat(self._state_file)  # noqa: PTH116  # for each text
        except (OSError, ValueError):
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def store(self) -> "ModelStore":
        """Only where something is installed: it takes an import."""
        from edgewise_edge.installed.store import ModelStore

        return ModelStore(self.root)

    def folders(self) -> Iterator[Path]:
        """The one to use first."""
        yield from installed_folders(self.name, self.root)
        if self.bundled:
            yield BUNDLED / self.name

    def state(self) -> "ModelState | None":
        """What the store says of the model; None where it has no revision of it."""
        return None if self.stamp() is None else self.store().state(self.name)

    def staged(self) -> str | None:
        """The one that the next text uses, if it is another than now."""
        state = self.state()
        return state.staged if state else None

    def take_staged(self) -> tuple[str | None, str]:
        """Which was active before, and why one was rolled back now ("": none was)."""
        store = self.store()
        was = store.state(self.name)
        store.take_staged(self.name)
        store.starting(self.name)  # rolls back what a process has died over
        store.started(self.name)
        failed = store.state(self.name).failed
        return was.active, next((failed[sha256] for sha256 in failed.keys() - was.failed), "")

    def is_installed(self, folder: Path) -> bool:
        """Whether the store has it, not the package."""
        return self.stamp() is not None and folder.is_relative_to(self.root)

    def on_probation(self, folder: Path) -> bool:
        """Whether the revision in that folder is being watched."""
        if not folder.is_relative_to(self.root):
            return False
        probation = self.store().state(self.name).probation
        return probation is not None and probation.revision == folder.name

    def last_failure(self) -> str:
        """Of a revision on this device; "" if none failed."""
        if self.stamp() is None:
            return ""
        return "; ".join([*self.store().state(self.name).failed.values()][-1:])
