"""Which revision is used next: staging, activating, probation, rolling back, pinning."""

from contextlib import suppress
from functools import partial

from edgewise_edge.errors import ModelError, ModelRefusedError, StoreError
from edgewise_edge.installed import contents
from edgewise_edge.installed.files import marks
from edgewise_edge.installed.files.states import States
from edgewise_edge.installed.state import ModelState
from edgewise_edge.store.active import active_folder, report_once
from edgewise_edge.store.catalog import BUNDLED, bundled_models
from edgewise_edge.store.manifest import MODEL_FILE, Manifest

_DIED = "a process died while it was loaded or run"
_DIED_AGAIN = "a process died again while it was run"


class Switching:
    """The changes of a model's state, each in one step. ModelStore says what they raise."""

    def __init__(self, states: States) -> None:
        self._states, self._layout = states, states.layout

    def stage(self, name: str, revision: str, force: bool) -> None:
        """As ModelStore.stage()."""
        model = contents.revision(self._layout, name, revision).manifest
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

        self._states.update(name, change)

    def take(self, name: str, staged: str, generations: int) -> None:
        """Make the staged revision active, if it is whole."""
        sound = True
        try:
            contents.verify(self._layout.revision(name, staged), name, staged)
        except ModelError as error:
            report_once(f"{name} {staged} was damaged before its first use: {error}")
            sound = False

        def change(state: ModelState) -> ModelState:
            if state.staged != staged:
                return state  # another process was faster
            if not sound:
                return state.unstage()
            return state.take_staged(generations, has_bundled=name in bundled_models())

        with self._states.writing():
            self._settle_crashes(name)
            self._states.change(name, change)

    def roll_back(self, name: str, reason: str) -> ModelState:
        """As ModelStore.rollback()."""

        def change(state: ModelState) -> ModelState:
            if not state.active:
                raise StoreError(f"{name} cannot be rolled back: no installed revision is in use")
            if not (state.previous or name in bundled_models()):
                raise StoreError(
                    f"{name} cannot be rolled back: there is no revision before {state.active}"
                )
            return self._failed(state, name, reason).unstage()

        return self._states.update(name, change)

    def pin(self, name: str, revision: str) -> None:
        """As ModelStore.pin()."""
        bundled = _bundled(name)
        is_bundled = bundled is not None and bundled.revision == revision
        if not is_bundled:
            manifest = contents.revision(self._layout, name, revision).manifest
            self._require_same_vocabulary(name, manifest)
        self._states.update(
            name,
            lambda state: state.pin(revision, bundled=is_bundled, has_bundled=bundled is not None),
        )

    def fail(self, name: str, sha256: str, reason: str) -> None:
        """As ModelStore.fail()."""
        self._layout.blob(sha256)  # checks it

        def change(state: ModelState) -> ModelState:
            is_staged = state.staged and self._sha256(name, state.staged) == sha256
            return (state.unstage() if is_staged else state).fail(sha256, reason)

        self._states.update(name, change)

    def starting(self, name: str) -> None:
        """Leave a crash mark if the active revision is on probation, and roll back after a crash."""
        if not self._states.state(name).probation:
            return
        with self._states.writing():
            state = self._settle_crashes(name)
            if state.probation:
                marks.leave(self._layout.model(name), state.probation.revision)

    def generation_ended(
        self, name: str, ok: bool, reason: str, revision: str | None
    ) -> str | None:
        """As ModelStore.generation_ended()."""
        probation = self._states.state(name).probation
        if not probation or (revision and revision != probation.revision):
            return None
        running = probation.revision

        def change(state: ModelState) -> ModelState:
            if not state.probation or state.probation.revision != running:
                return state  # another process was faster
            if ok:
                return state.generation_passed()
            return self._failed(state, name, f"failed on probation: {reason}")

        state = self._states.update(name, change)
        if ok or state.active == running:
            return None
        return f"rolled back to {_shown(state, name)}"

    def _settle_crashes(self, name: str) -> ModelState:
        """The state, after a roll-back if processes have died over the revision on probation.

        One is enough before a first token. After it somebody else may have killed the process: the
        first time is only remembered. The caller holds the lock.
        """
        state, remembered = self._states.to_change(name), False
        for ran, revision in marks.crashed(self._layout.model(name)):
            if not state.probation or state.probation.revision != revision:
                continue
            if ran and remembered:  # a process may have had several texts
                continue
            if ran and not state.probation.deaths:
                state, remembered = self._states.change(name, ModelState.process_died), True
                continue
            reason = _DIED_AGAIN if ran else _DIED
            state = self._states.change(name, partial(self._failed, name=name, reason=reason))
            report_once(f"{name} {revision}: {reason}; rolled back to {_shown(state, name)}")
        return state

    def _failed(self, state: ModelState, name: str, reason: str) -> ModelState:
        """Rolled back, and the active revision is remembered as failed."""
        sha256 = self._sha256(name, state.active) if state.active else None
        return (state.fail(sha256, reason) if sha256 else state).roll_back(keep_staged=True)

    def _sha256(self, name: str, revision: str) -> str | None:
        """Of its model file."""
        with suppress(ModelError):
            found = contents.revision(self._layout, name, revision)
            return found.manifest.files[MODEL_FILE].sha256
        return None

    def _require_same_vocabulary(self, name: str, manifest: Manifest) -> None:
        folder = active_folder(name, self._layout.root)
        used = Manifest.read(folder) if folder else _bundled(name)
        if used and used.vocabulary != manifest.vocabulary:
            raise ModelRefusedError(
                f"{name} {manifest.revision} has another vocabulary than {used.revision}, which is "
                "in use: an answer could not continue in the cloud. A model with another vocabulary "
                "is published under another name"
            )


def _shown(state: ModelState, name: str) -> str:
    """What is used now."""
    return state.active or (
        "the bundled model" if name in bundled_models() else "nothing: no other is here"
    )


def _bundled(name: str) -> Manifest | None:
    with suppress(ModelError):
        return Manifest.read(BUNDLED / name) if name in bundled_models() else None
    return None
