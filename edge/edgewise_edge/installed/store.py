"""The models that are installed on this device, and which revision of each is used."""

import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from edgewise_edge.errors import EdgeError
from edgewise_edge.installed import adding, contents, gc, install
from edgewise_edge.installed.contents import InstalledRevision
from edgewise_edge.installed.files import disk, marks
from edgewise_edge.installed.files.layout import Layout
from edgewise_edge.installed.files.lock import locked
from edgewise_edge.installed.files.partial import Partial
from edgewise_edge.installed.files.states import States
from edgewise_edge.installed.state import PROBATION, ModelState
from edgewise_edge.installed.switching import Switching
from edgewise_edge.store.active import active_folder, report_once, store_root
from edgewise_edge.store.files import read_text

__all__ = ["InstalledRevision", "ModelStore"]
_DEVICE_ID = "device-id"


class ModelStore:
    """The store at `root` (default: EDGEWISE_STORE, or a folder in the user's data folder).

    Reading creates nothing, and fails only for what is no name (StoreError): what cannot be trusted
    or read is ignored and logged once. Whatever changes the store raises StoreError where it cannot:
    full, locked, another user's. Thread-safe, and safe among processes; a process may be killed at any point.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.layout = Layout((root or store_root()).absolute())
        self._states = States(self.layout)
        self._switching = Switching(self._states)

    @property
    def root(self) -> Path:
        """The store's folder."""
        return self.layout.root

    # Reading.

    def names(self) -> list[str]:
        """Of the models that have revisions here."""
        return [name for name in self.layout.names() if self.revisions(name)]

    def revisions(self, name: str) -> list[InstalledRevision]:
        """The installed revisions of `name`, by name; those whose manifest is damaged are left out."""
        return contents.revisions(self.layout, name)

    def revision(self, name: str, revision: str) -> InstalledRevision:
        """One of them. Raises ModelNotFoundError, or ModelCorruptError for a damaged manifest."""
        return contents.revision(self.layout, name, revision)

    def state(self, name: str) -> ModelState:
        """What is active, staged, pinned or known to fail; empty where nothing is known."""
        return self._states.state(name)

    def active_folder(self, name: str) -> Path | None:
        """The model folder that a load uses now; None: the bundled model, if there is one."""
        return active_folder(name, self.root)

    def blob(self, sha256: str) -> Path | None:
        """The file with this content, if it is here."""
        return contents.find_blob(self.layout, sha256)

    # Files.

    def partial(self, sha256: str, size: int) -> Partial:
        """The download of the file `sha256` of `size` bytes, to go on with."""
        return Partial(self.layout, sha256, size)

    def install(self, manifest: bytes, evaluation: bytes | None = None) -> Path:
        """Make a model folder of `manifest` and the blobs that it names; nothing uses it yet.

        Installing the same again repairs it. Raises ModelCorruptError for a damaged manifest or
        blob (which is removed), ModelNotFoundError for a missing one, ModelRefusedError if the
        revision is here with other content.
        """
        return install.install(self._states, manifest, evaluation)

    def add(
        self,
        name: str,
        stream: Iterable[bytes],
        *,
        size: int,
        sha256: str | None = None,
        manifest: Path | str | bytes | None = None,
        offset: int = 0,
    ) -> InstalledRevision:
        """Install a revision from the app's own stream of its `model.tflite`, `size` bytes long.

        `stream` starts at `offset` of the file. An interrupted stream goes on from
        `partial(sha256, size).size`, or from 0: known bytes are skipped. Without `manifest`, that of
        the active or the bundled model `name`, if this is its file. The other files come from the
        store, from the folder of `manifest`, or from that model. `stage` then has the next load use
        it. Raises StoreError, ModelError, and what the stream raises; the bytes that came are kept.
        """
        revision = adding.add(self._states, name, stream, size, sha256, manifest, offset)
        return self.revision(name, revision)

    # Switching.

    def stage(self, name: str, revision: str, *, force: bool = False) -> None:
        """Have the next load use `revision`. `force`: although it failed here before.

        Raises ModelNotFoundError if it is not installed, and ModelRefusedError if it failed before,
        if the model is pinned, or if its vocabulary is another.
        """
        self._switching.stage(name, revision, force)

    def take_staged(self, name: str, generations: int = PROBATION) -> Path | None:
        """Make the staged revision active, if there is one; the active folder, as active_folder().

        Its files are verified first. It is on probation for `generations`. Never raises: where the
        store cannot be written to, what is active stays, which is logged once.
        """
        staged = self.state(name).staged
        if staged:
            with self._tolerant(name):
                self._switching.take(name, staged, generations)
        return self.active_folder(name)

    def rollback(self, name: str, reason: str = "rolled back on request") -> str | None:
        """Back to the previous revision, whose name is returned, or to the bundled model (None).

        The one that was active is remembered as failed. Raises StoreError if there is no way back.
        """
        return self._switching.roll_back(name, reason).active

    def pin(self, name: str, revision: str | None) -> None:
        """Use `revision`, from the next load on, and let nothing be staged; None: no longer.

        It may be the bundled model's revision. Raises ModelNotFoundError for an unknown one.
        """
        if revision is None:
            self._states.update(name, ModelState.unpin)
        else:
            self._switching.pin(name, revision)

    def fail(self, name: str, sha256: str, reason: str) -> None:
        """Remember that the model file `sha256` failed, so that it is not staged again."""
        self._switching.fail(name, sha256, reason)

    def remove(self, name: str, revision: str | None = None) -> int:
        """Remove a revision that is not in use, or all (None); the bytes that are free now.

        Who has it mapped keeps it. Raises ModelNotFoundError, or StoreError if it is in use.
        """
        with self._states.writing():
            return gc.remove(self._states, name, revision)

    def remove_damaged(self, name: str) -> None:
        """Remove the active revision if its files are not as published, so that it can be fetched again.

        No load uses it. Raises StoreError.
        """
        gc.remove_damaged(self._states, name)

    def verify(self, name: str, revision: str) -> None:
        """Raise ModelCorruptError or ModelNotFoundError unless all files are as published."""
        contents.verify(self.layout.revision(name, revision), name, revision)

    def gc(self, grace: float = 3600.0) -> int:
        """Remove what nothing uses and is older than `grace` seconds; the bytes that are free now.

        Spares active, previous, staged and pinned revisions, and downloads in progress.
        """
        if not self.root.exists():
            return 0
        with self._states.writing():
            return gc.collect(self._states, grace)

    # Probation.

    def starting(self, name: str) -> Path | None:
        """Say that the active revision is being loaded or run; its folder, as active_folder().

        On probation only, this leaves a crash mark, which started() removes. If a process has died
        over an earlier one before running() was called, or two after it, the revision is rolled back
        first. Never raises.
        """
        with self._tolerant(name):
            self._switching.starting(name)
        return self.active_folder(name)

    def running(self, name: str) -> None:
        """Say that what starting() announced has come to its first token. Never raises."""
        marks.running(self.layout.model(name))

    def started(self, name: str) -> None:
        """Say that what starting() announced has ended, well or with an error that was caught."""
        marks.remove(self.layout.model(name))

    def generation_ended(
        self, name: str, ok: bool, reason: str = "", *, revision: str | None = None
    ) -> str | None:
        """Count a generation of the active revision while it is on probation.

        `revision` is the one that ran, if known: another one's does not count. If it was not `ok`,
        rolls back and returns "rolled back to …". Never raises.
        """
        with self._tolerant(name):
            return self._switching.generation_ended(name, ok, reason, revision)
        return None

    # For others that change the store.

    @contextmanager
    def exclusive(self, purpose: str, timeout: float | None = None) -> Iterator[None]:
        """Hold the lock `purpose`, so that one process at a time updates, say.

        Raises StoreError if another process holds it for longer than `timeout` seconds (10).
        """
        self._states.make_root()
        with ExitStack() as held:
            with disk.failures(self.root):
                held.enter_context(locked(self.root / f"{purpose}.lock", timeout))
            yield

    def device_id(self) -> str:
        """A random name of this device, which says nothing about it, for staged roll-out."""
        path = self.root / _DEVICE_ID
        with self._states.writing():
            with suppress(OSError, ValueError):
                return str(uuid.UUID(read_text(path, 64).strip()))
            new = str(uuid.uuid4())
            disk.write(path, f"{new}\n".encode())
            return new

    @contextmanager
    def _tolerant(self, name: str) -> Iterator[None]:
        """A load goes on with what is active, whatever is wrong with the store."""
        try:
            yield
        except EdgeError as error:
            report_once(f"the store's state of {name} stays as it is: {error}")
