"""The steps of an update. A process may be killed at any of them: the next try goes on from there."""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from edgewise.delivery.catalog import Catalog
from edgewise.delivery.download import Clock
from edgewise.delivery.events import (
    DownloadStarted,
    OnEvent,
    RevisionRefused,
    RevisionRolledBack,
    RevisionStaged,
    UpdateChecked,
)
from edgewise.delivery.progress import OnDownload, ProgressMeter
from edgewise.delivery.settings import DownloadSettings
from edgewise.delivery.update.check import UpdateCheck, choose
from edgewise.delivery.update.files import FileFetcher, Plan, make_plan
from edgewise.delivery.update.published import Published
from edgewise.delivery.update.reporter import Reporter
from edgewise.delivery.update.result import UpdateOutcome, UpdateResult, nothing_to_do
from edgewise.delivery.update.this_device import folders_of, in_use, this_device, try_as_loaded
from edgewise.errors import ChannelError
from edgewise_edge.errors import ModelIncompatibleError, ModelRefusedError, StoreError
from edgewise_edge.installed.channel_index import Index, IndexedRevision
from edgewise_edge.installed.contents import parse
from edgewise_edge.installed.files import disk
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.manifest import MODEL_FILE

LOCK_TIMEOUT = 10.0  # seconds: another process is updating
Trial = Callable[[Path, int | None], object]  # of a model folder, with as many threads
_log = logging.getLogger("edgewise.delivery")


class Updater:
    """Brings the model `name` up to date from `catalog` (open_catalog()) into `store`.

    A context manager, which closes the catalog. `on_event` is called with ModelEvents, in the thread
    that updates. `threads` are those of the router that will load the model. With `force`, revisions
    that failed here before are considered again; they have to pass their trial and gate again.
    `trial` replaces that in a child process, for tests. An exception of the clock's `sleep` or of
    `on_progress` stops an update; what came is kept.
    """

    def __init__(
        self,
        name: str,
        catalog: Catalog,
        store: ModelStore,
        *,
        settings: DownloadSettings | None = None,
        on_event: OnEvent | None = None,
        threads: int | None = None,
        force: bool = False,
        clock: Clock | None = None,
        trial: Trial | None = None,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        self.name, self._catalog, self._store = name, catalog, store
        self._settings, self._clock = settings or DownloadSettings(), clock or Clock()
        self._reporter, self._threads = Reporter(name, on_event, self._clock.now), threads
        self._trial, self._lock_timeout = trial or try_as_loaded, lock_timeout
        self._force = force
        self._published = Published(name, catalog, store, self._settings, self._clock)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the catalog."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._catalog.close()

    def check(self) -> UpdateCheck:
        """Ask the channel. Nothing of a model is fetched but its manifest.

        Raises DownloadFailedError if the channel cannot be reached, ChannelError if it cannot be
        trusted or does not have the model, StoreError.
        """
        return self._check(self._catalog.refresh())

    def update(
        self, on_progress: OnDownload | None = None, *, dry_run: bool = False
    ) -> UpdateResult:
        """Fetch, try and stage the newest usable revision; the next load then uses it.

        A revoked revision that is in use is rolled back, where there is a way back. `dry_run` only
        says what would be done. Raises as check(), and ModelError for a revision whose files are not
        what its manifest says, or whose trial came to no end.
        """
        if dry_run:
            return self._update(on_progress, dry_run=True)
        with self._store.exclusive("update", self._lock_timeout):
            return self._update(on_progress, dry_run=False)

    def _update(self, on_progress: OnDownload | None, *, dry_run: bool) -> UpdateResult:
        index = self._catalog.refresh()
        if not dry_run:
            self._store.remove_damaged(
                self.name
            )  # else it would be up to date, and run never again
        check = first = self._check(index)
        if not dry_run:
            check = self._leave_revoked(index, check)
        newest = check.newest
        if newest is None:
            return nothing_to_do(first, check)
        if newest.revision == check.staged:
            return UpdateResult(
                outcome=UpdateOutcome.STAGED, revision=check.staged, size=newest.size, check=check
            )
        plan = self._plan(newest)
        if dry_run:
            return UpdateResult(
                outcome=UpdateOutcome.AVAILABLE,
                revision=newest.revision,
                fetched=plan.total - plan.resumed,
                size=newest.size,
                delta=plan.delta,
                check=check,
            )
        return self._take(newest, plan, check, on_progress)

    def _check(self, index: Index) -> UpdateCheck:
        revisions = index.models.get(self.name)
        if not revisions:
            offered = ", ".join(sorted(index.models)) or "nothing"
            raise ChannelError(
                f"{self._catalog.fetcher} has no model {self.name!r}; it offers {offered}"
            )
        used = in_use(self._store, self.name)
        check = choose(
            self.name,
            revisions,
            self._store.state(self.name),
            used.revision if used else None,
            this_device(self._store, used),
            self._published.model_sha256,
            force=self._force,
        )
        self._reporter.emit(
            UpdateChecked,
            check.newest.revision if check.newest else None,
            current=check.current,
            detail=check.detail,
        )
        return check

    def _leave_revoked(self, index: Index, check: UpdateCheck) -> UpdateCheck:
        """Stop using what is revoked, also if it is only staged; what is to be done then."""
        revisions = index.models[self.name]
        revoked = {each.revision: each.revoked for each in revisions if each.revoked}
        if check.staged in revoked:
            reason = f"revoked by its publisher: {revoked[check.staged]}"
            sha256 = self._store.revision(self.name, check.staged).manifest.files[MODEL_FILE].sha256
            self._store.fail(self.name, sha256, reason)
            return self._leave_revoked(index, self._check(index))
        if not (check.revoked and self._store.state(self.name).active == check.current):
            return check
        reason = f"revoked by its publisher: {check.revoked}"
        try:
            self._store.rollback(self.name, reason)
        except StoreError as error:  # there is no way back: it stays until another one is there
            _log.warning("%s %s is %s; %s", self.name, check.current, reason, error)
            return check
        used = in_use(self._store, self.name)
        back_to = used.revision if used else None
        self._reporter.emit(RevisionRolledBack, check.current, back_to=back_to, reason=reason)
        return self._leave_revoked(index, self._check(index))

    def _plan(self, newest: IndexedRevision) -> Plan:
        manifest = parse(self._published.manifest(newest))
        folders = folders_of(self._store, self.name)
        return make_plan(manifest, newest, folders, self._store, self._catalog)

    def _take(
        self,
        newest: IndexedRevision,
        plan: Plan,
        check: UpdateCheck,
        on_progress: OnDownload | None,
    ) -> UpdateResult:
        with disk.failures(self._store.root, plan.space):
            disk.require_space(self._store.root, plan.space)
        fetched = self._fetch(newest, plan, on_progress)
        folder = self._store.install(
            self._published.manifest(newest), self._published.evaluation(newest)
        )
        from edgewise_edge.trial import TrialFailedError

        try:
            self._trial(folder, self._threads)
        except TrialFailedError:  # nothing is known of the revision: another time
            raise
        except (ModelRefusedError, ModelIncompatibleError) as error:
            outcome, reason = UpdateOutcome.REFUSED, str(error)
            self._store.fail(self.name, self._published.model_sha256(newest), reason)
            self._reporter.emit(RevisionRefused, newest.revision, reason=reason)
        else:
            self._store.stage(self.name, newest.revision, force=self._force)
            outcome, reason = UpdateOutcome.STAGED, ""
            self._reporter.emit(RevisionStaged, newest.revision)
        with suppress(StoreError):
            self._store.gc()
        return UpdateResult(
            outcome=outcome,
            revision=newest.revision,
            reason=reason,
            fetched=fetched,
            size=newest.size,
            delta=plan.delta,
            check=check,
        )

    def _fetch(self, newest: IndexedRevision, plan: Plan, on_progress: OnDownload | None) -> int:
        """The bytes that came."""
        if plan.missing:
            self._reporter.emit(
                DownloadStarted,
                newest.revision,
                total=plan.total,
                resumed=plan.resumed,
                delta=plan.delta,
            )
        report = self._reporter.download(on_progress)
        meter = ProgressMeter(newest.revision, plan.total, report, self._clock.now)
        if plan.missing:
            meter.start()
        FileFetcher(self._store, self._catalog, self._settings, self._clock, meter).fetch(plan)
        return meter.fetched
