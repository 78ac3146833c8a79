"""The models that are installed on this device, and which revision of each is used."""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edgewise_edge.errors import (
    EdgeError,
    ModelError,
    ModelNotFoundError,
    ModelRefusedError,
    StoreError,
)
from edgewise_edge.installed import contents, disk, gc, marks
from edgewise_edge.installed.layout import Layout
from edgewise_edge.installed.lock import TIMEOUT, locked
from edgewise_edge.installed.partial import Partial
from edgewise_edge.installed.state import PROBATION, ModelState, NewerFormatError
from edgewise_edge.store.active import (
    MAX_STATE_BYTES,
    active_folder,
    distrust,
    report_once,
    store_root,
)
from edgewise_edge.store.catalog import BUNDLED, bundled_models
from edgewise_edge.store.files import is_ours, read_text
from edgewise_edge.store.manifest import MODEL_FILE, Manifest

_LOCK, _DEVICE_ID = "lock", "device-id"
_DIED = "a process died while it was loaded or run"


@dataclass(frozen=True, slots=True)
class InstalledRevision:
    """A revision in the store. `size`: bytes of its files, which it may share with others."""

    name: str
    revision: str
    folder: Path
    size: int
    manifest: Manifest


class ModelStore:
    """The store at `root` (default: EDGEWISE_STORE, or a folder in the user's data folder).

    Reading creates nothing, and never fails: what cannot be trusted or read is ignored and logged
    once. Whatever changes the store raises StoreError where it cannot: full, locked, another
    user's. Thread-safe, and safe among processes; a process may be killed at any point.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.layout = Layout((root or store_root()).absolute())

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
        found = []
        for revision in self.layout.revisions(name):
            with suppress(ModelError):
                found.append(self.revision(name, revision))
        return found

    def revision(self, name: str, revision: str) -> InstalledRevision:
        """One of them. Raises ModelNotFoundError, or ModelCorruptError for a damaged manifest."""
        folder = self.layout.revision(name, revision)
        manifest = contents.read(folder, name, revision)
        return InstalledRevision(name, revision, folder, contents.size(manifest), manifest)

    def state(self, name: str) -> ModelState:
        """What is active, staged, pinned or known to fail; empty where nothing is known."""
        try:
            return self._read(name)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            report_once(f"the state of {name} in {self.root} is not used: {error}")
        return ModelState()

    def active_folder(self, name: str) -> Path | None:
        """The model folder that a load uses now; None: the bundled model, if there is one."""
        return active_folder(name, self.root)

    def blob(self, sha256: str) -> Path | None:
        """The file with this content, if it is here."""
        path = self.layout.blob(sha256)
        return path if is_ours(path) else None

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
        parsed = contents.parse(manifest)
        with disk.failures(self.root):
            contents.verify_blobs(self.layout, parsed)  # before the lock: it takes long
        with self._writing():
            return contents.install(self.layout, parsed, manifest, evaluation)

    def add(
        self,
        name: str,
        stream: Iterable[bytes],
        *,
        size: int,
        sha256: str | None = None,
        manifest: Path | bytes | None = None,
        offset: int = 0,
    ) -> InstalledRevision:
        """Install a revision from the app's own stream of its `model.tflite`, `size` bytes long.

        `stream` starts at `offset` of the file. An interrupted stream goes on from
        `partial(sha256, size).size`, or from 0: known bytes are skipped. Without `manifest`, that of
        the active or the bundled model `name`, if this is its file. The other files come from the
        store or from that model. `stage` then has the next load use it.
        """
        from edgewise_edge.installed.adding import add

        revision = add(self, name, stream, size, sha256, manifest, offset)
        return self.revision(name, revision)

    # Switching.

    def stage(self, name: str, revision: str, *, force: bool = False) -> None:
        """Have the next load use `revision`. `force`: although it failed here before.

        Raises ModelNotFoundError if it is not installed, and ModelRefusedError if it failed before,
        if the model is pinned, or if its vocabulary is another.
        """
        model = self.revision(name, revision).manifest
        sha256 = model.files[MODEL_FILE].sha256
        self._require_same_vocabulary(name, model)

        def change(state: ModelState) -> ModelState:
            if state.pinned:
                raise ModelRefusedError(
                    f"{name} is pinned to {state.pinned}; unpin it first to use {revision}"
                )
            if sha256 in state.failed and not force:
                raise ModelRefusedError(
                    f"{name} {revision} failed on this device before: {state.failed[sha256]}; wait "
                    "for the next revision, or force it"
                )
            return state.forgive(sha256).stage(revision)

        self._update(name, change)

    def take_staged(self, name: str, generations: int = PROBATION) -> Path | None:
        """Make the staged revision active, if there is one; the active folder, as active_folder().

        Its files are verified first. It is on probation for `generations`. Never raises: where the
        store cannot be written to, what is active stays, which is logged once.
        """
        staged = self.state(name).staged
        if staged:
            with self._tolerant(name):
                self._take(name, staged, generations)
        return self.active_folder(name)

    def rollback(self, name: str, reason: str = "rolled back on request") -> str | None:
        """Back to the previous revision, whose name is returned, or to the bundled model (None).

        The one that was active is remembered as failed. Raises StoreError if there is no way back.
        """

        def change(state: ModelState) -> ModelState:
            if not state.active or not (state.previous or name in bundled_models()):
                raise StoreError(
                    f"{name} has no revision to roll back to"
                    + ("" if state.active else ": no installed revision is in use")
                )
            return self._failed(state, name, reason).roll_back()

        return self._update(name, change).active

    def pin(self, name: str, revision: str | None) -> None:
        """Use `revision`, from the next load on, and let nothing be staged; None: no longer.

        It may be the bundled model's revision. Raises ModelNotFoundError for an unknown one.
        """
        if revision is None:
            self._update(name, ModelState.unpin)
            return
        bundled = self._bundled(name)
        is_bundled = bundled is not None and bundled.revision == revision
        if not is_bundled:
            self._require_same_vocabulary(name, self.revision(name, revision).manifest)
        self._update(name, lambda state: state.pin(revision, bundled=is_bundled))

    def fail(self, name: str, sha256: str, reason: str) -> None:
        """Remember that the model file `sha256` failed, so that it is not staged again."""
        self.layout.blob(sha256)  # checks it

        def change(state: ModelState) -> ModelState:
            is_staged = state.staged and self._sha256(name, state.staged) == sha256
            return (state.unstage() if is_staged else state).fail(sha256, reason)

        self._update(name, change)

    def remove(self, name: str, revision: str | None = None) -> int:
        """Remove a revision that is not in use, or all (None); the bytes that are free now.

        Who has it mapped keeps it. Raises ModelNotFoundError, or StoreError if it is in use.
        """
        with self._writing():
            state = self._state_to_change(name)
            if revision is None:
                return gc.remove_model(self.layout, name)
            if not os.path.lexists(self.layout.revision(name, revision)):
                raise ModelNotFoundError(f"{name} {revision} is not installed")
            if revision in {state.active, state.pinned}:
                raise StoreError(f"{name} {revision} is in use; roll back or unpin it first")
            disk.write(self.layout.state(name), state.without(revision).to_json().encode())
            return gc.remove_revision(self.layout, name, revision)

    def verify(self, name: str, revision: str) -> None:
        """Raise ModelCorruptError or ModelNotFoundError unless all files are as published."""
        contents.verify(self.revision(name, revision).folder, name, revision)

    def gc(self, grace: float = 3600.0) -> int:
        """Remove what nothing uses and is older than `grace` seconds; the bytes that are free now.

        Spares active, previous, staged and pinned revisions, and downloads in progress.
        """
        if not self.layout.models.exists() and not self.layout.partials.exists():
            return 0
        with self._writing():
            return gc.collect(self.layout, self._kept, grace)

    # Probation.

    def starting(self, name: str) -> Path | None:
        """Say that the active revision is being loaded or run; its folder, as active_folder().

        On probation only, this leaves a crash mark, which started() removes. If a process has died
        over an earlier one, the revision is rolled back first. Never raises.
        """
        if self.state(name).probation:
            with self._tolerant(name), self._writing():
                state = self._without_crashed(name)
                if state.probation:
                    marks.leave(self.layout.model(name), state.probation.revision)
        return self.active_folder(name)

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
        probation = self.state(name).probation
        if not probation or (revision and revision != probation.revision):
            return None
        running = probation.revision

        def change(state: ModelState) -> ModelState:
            if not state.probation or state.probation.revision != running:
                return state  # another process was faster
            if ok:
                return state.generation_passed()
            return self._failed(state, name, f"failed on probation: {reason}").roll_back()

        with self._tolerant(name):
            state = self._update(name, change)
            if not ok and state.active != running:
                return f"rolled back to {state.active or 'the bundled model'}"
        return None

    # For others that change the store.

    @contextmanager
    def exclusive(self, purpose: str, timeout: float = TIMEOUT) -> Iterator[None]:
        """Hold a lock of the name `purpose`, so that one process at a time updates, say."""
        with disk.failures(self.root):
            self._prepare()
            with locked(self.root / f"{purpose}.lock", timeout):
                yield

    def device_id(self) -> str:
        """A random name of this device, which says nothing about it, for staged roll-out."""
        with self._writing():
            path = self.root / _DEVICE_ID
            with suppress(OSError, ValueError):
                return str(uuid.UUID(read_text(path, 64).strip()))
            new = str(uuid.uuid4())
            disk.write(path, f"{new}\n".encode())
            return new

    # Inside.

    def _read(self, name: str) -> ModelState:
        """Raises OSError or ValueError."""
        path = self.layout.state(name)
        text = read_text(path, MAX_STATE_BYTES)
        if reason := distrust(self.root):
            raise ValueError(reason)
        if not is_ours(path):
            raise ValueError(f"{path} is a link, or another user's")
        return ModelState.parse(text)

    def _kept(self, name: str) -> set[str] | None:
        """The revisions of `name` that are in use; None: unknown, since its state is damaged."""
        try:
            return self._read(name).kept
        except FileNotFoundError:
            return set()
        except (OSError, ValueError):
            return None

    def _state_to_change(self, name: str) -> ModelState:
        """Under the lock. A damaged state starts anew; what another version has written stays."""
        try:
            return self._read(name)
        except NewerFormatError as error:
            raise StoreError(
                f"the state of {name} in {self.root} was written by another version of edgewise "
                f"({error}); update edgewise"
            ) from error
        except (OSError, ValueError):
            return self.state(name)

    def _update(self, name: str, change: Callable[[ModelState], ModelState]) -> ModelState:
        with self._writing():
            return self._change(name, change)

    def _change(self, name: str, change: Callable[[ModelState], ModelState]) -> ModelState:
        """Under the lock."""
        before = self._state_to_change(name)
        after = change(before)
        if after != before:
            disk.make_folder(self.layout.model(name))
            disk.write(self.layout.state(name), after.to_json().encode())
        return after

    def _take(self, name: str, staged: str, generations: int) -> None:
        def change(state: ModelState) -> ModelState:
            if state.staged != staged:
                return state  # another process was faster
            return state.take_staged(generations) if sound else state.unstage()

        try:
            self.verify(name, staged)
            sound = True
        except ModelError as error:
            report_once(f"{name} {staged} was damaged before its first use: {error}")
            sound = False
        with self._writing():
            self._without_crashed(name)
            self._change(name, change)

    def _without_crashed(self, name: str) -> ModelState:
        """The state, after a roll-back if a process has died over the revision on probation."""
        state = self._state_to_change(name)
        for revision in marks.crashed(self.layout.model(name)):
            if state.probation and state.probation.revision == revision:
                state = self._change(name, lambda now: self._failed(now, name, _DIED).roll_back())
                back = state.active or "the bundled model"
                report_once(f"{name} {revision}: {_DIED}; rolled back to {back}")
        return state

    def _failed(self, state: ModelState, name: str, reason: str) -> ModelState:
        sha256 = self._sha256(name, state.active) if state.active else None
        return state.fail(sha256, reason) if sha256 else state

    def _sha256(self, name: str, revision: str) -> str | None:
        """Of its model file."""
        with suppress(ModelError):
            return self.revision(name, revision).manifest.files[MODEL_FILE].sha256
        return None

    def _require_same_vocabulary(self, name: str, manifest: Manifest) -> None:
        folder = self.active_folder(name)
        used = Manifest.read(folder) if folder else self._bundled(name)
        if used and used.vocabulary != manifest.vocabulary:
            raise ModelRefusedError(
                f"{name} {manifest.revision} has another vocabulary than {used.revision}, which is "
                "in use: an answer could not continue in the cloud. A model with another vocabulary "
                "is published under another name"
            )

    def _bundled(self, name: str) -> Manifest | None:
        with suppress(ModelError):
            return Manifest.read(BUNDLED / name) if name in bundled_models() else None
        return None

    @contextmanager
    def _tolerant(self, name: str) -> Iterator[None]:
        """A load goes on with what is active, whatever is wrong with the store."""
        try:
            yield
        except EdgeError as error:
            report_once(f"the store's state of {name} stays as it is: {error}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with disk.failures(self.root):
            self._prepare()
            with locked(self.root / _LOCK):
                yield

    def _prepare(self) -> None:
        disk.make_folder(self.root)
        self.layout.require_ours()
