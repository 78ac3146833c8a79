"""A model of which revisions come and go: a text uses the one that is active when it starts."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise.device.probation import Probation, Replaceable, is_blameless
from edgewise.device.revisions import Revisions, Stamp
from edgewise.device.source import DeviceSource, Watch
from edgewise.generation.source import ModelAvailability
from edgewise.latency.log import LatencyLog
from edgewise.policy.types import Availability
from edgewise_edge import (
    Manifest,
    ModelError,
    ModelIncompatibleError,
    ModelNotFoundError,
    RuntimeFailedError,
)

if TYPE_CHECKING:
    from edgewise_edge.installed.state import ModelState

log = logging.getLogger("edgewise")

# Called with the model's name, the revision that texts use from now on, the one before (None: none),
# and why that one was rolled back ("": it was not).
OnSwitch = Callable[[str, str, str | None, str], object]


class InstalledModel:
    """The model `name`: its active revision in the store at `root`, or else the bundled one.

    A staged revision is taken, and what another process has switched to is followed, by the next
    text that starts while no other one runs. `missing` says where a model that is nowhere comes
    from; without it that is ModelNotFoundError. `on_switch` hears of each switch. Thread-safe.
    """

    def __init__(
        self,
        name: str,
        latency: LatencyLog,
        threads: int | None = None,
        keep_alive: float | None = None,
        *,
        root: Path | None = None,
        missing: str = "",
        on_switch: OnSwitch | None = None,
    ) -> None:
        self.name, self._revisions = name, Revisions(name, root)
        self._missing, self._on_switch = missing, on_switch
        self._new_source = partial(
            DeviceSource, latency=latency, threads=threads, keep_alive=keep_alive
        )
        self._lock = threading.RLock()
        self._source: DeviceSource | None = None
        self._vocabulary = ""
        self._seen: Stamp = None
        self._damaged: set[Path] = set()
        self._failure: ModelError | None = None  # of the best revision, if none can be used
        self._follow(self._revisions.stamp())
        if self._source is None and not missing:
            raise self._not_here()

    def __str__(self) -> str:
        """Its name and revision, if it is here."""
        return f"{self.name}@{self._revision}" if self._source else self.name

    @property
    def source(self) -> DeviceSource:
        """See ModelInUse."""
        return self._source or self.for_text()

    @property
    def in_use(self) -> bool:
        """Whether a text is being generated on this device."""
        return self._source is not None and self._source.in_use

    def for_text(self) -> DeviceSource:
        """See ModelInUse. Takes what is staged, or follows another process, between texts."""
        stamp = self._revisions.stamp()
        if stamp != self._seen:
            with self._lock:
                if not self.in_use:
                    self._follow(stamp)
        if self._source is None:
            raise self._not_here()
        return self._source

    def availability(self) -> ModelAvailability:
        """See ModelInUse."""
        if staged := self._revisions.staged():
            loaded = bool(self._source and self._source.model)
            detail = f"{self.name} {staged} is staged: the next text uses it"
            return ModelAvailability(Availability.STAGED, loaded, detail)
        if self._source:
            return self._source.availability()
        status = Availability.DOWNLOADABLE if self._missing else Availability.UNAVAILABLE
        return ModelAvailability(status, loaded=False, detail=str(self._not_here()))

    def state(self) -> "ModelState | None":
        """What the store says of the model; None where it has no revision of it."""
        return self._revisions.state()

    def warm_up(self) -> None:
        """See ModelInUse. Where a revision fails, the one that takes its place is loaded."""
        source = self.for_text()
        try:
            source.warm_up()
        except (ModelError, RuntimeFailedError) as error:
            other = self._replace(source, error)
            if other is None:
                raise
            other.warm_up()

    def vocabulary(self) -> str:
        """See ModelInUse."""
        return self._vocabulary

    def unload(self) -> None:
        """See ModelInUse."""
        if self._source:
            self._source.unload()

    def _follow(self, stamp: Stamp) -> None:
        """Use what the store says now."""
        self._damaged.clear()
        before, rolled_back = self._revision, ""
        if stamp is not None:
            active, rolled_back = self._revisions.take_staged()
            before = before or active
        self._switch()
        self._seen = stamp
        self._tell(before, rolled_back)

    @property
    def _revision(self) -> str | None:
        return self._source.manifest.revision if self._source else None

    def _tell(self, before: str | None, rolled_back: str = "") -> None:
        """Report a switch, if there was one."""
        now = self._revision
        if now and now != before and (self._seen is not None or before):
            log.info("%s %s is used from now on", self.name, now)
            if self._on_switch:
                self._on_switch(self.name, now, before, rolled_back)

    def _switch(self) -> None:
        """To the best revision that can be used."""
        self._failure = None
        for folder in self._revisions.folders():
            if folder in self._damaged:
                continue
            if self._source and self._source.folder == folder:
                return
            try:
                source = self._open(folder)
            except ModelError as error:
                self._failure = self._failure or error
                log.warning("%s is not used: %s", folder, error)
            else:
                if self._source:
                    self._source.retire()
                self._source, self._vocabulary = source, source.manifest.vocabulary
                return

    def _open(self, folder: Path) -> DeviceSource:
        """Raises ModelError."""
        manifest = Manifest.read(folder)
        if self._vocabulary not in {"", manifest.vocabulary}:
            raise ModelIncompatibleError(
                f"{manifest.name} {manifest.revision} has another vocabulary than the revision in "
                "use, so an answer could not continue in the cloud. A model with another vocabulary "
                "is published under another name; create another router for it"
            )
        return self._new_source(folder, watch=self._watch(folder))

    def _watch(self, folder: Path) -> Watch:
        if self._revisions.on_probation(folder):
            return Probation(self._revisions.store(), self.name, folder.name, self._replace)
        return Replaceable(self._replace)

    def _replace(self, source: DeviceSource, error: Exception) -> DeviceSource | None:
        """What continues in place of `source`, which failed; None if that is no reason to switch."""
        with self._lock:
            if source is self._source:
                if not self._give_up(source, error):
                    return None
                self._switch()
                self._tell(source.manifest.revision, str(error))
            return None if self._source is source else self._source

    def _give_up(self, source: DeviceSource, error: Exception) -> bool:
        """Whether another revision is to take its place."""
        revision = source.manifest.revision
        if not is_blameless(error) and self._revisions.is_installed(source.folder):
            store = self._revisions.store()
            state = store.state(self.name)
            if state.probation and not (state.previous or self._revisions.bundled):
                return False  # there is nothing before it
            reason = f"{type(error).__name__}: {error}"
            done = store.generation_ended(self.name, ok=False, reason=reason, revision=revision)
            if done:
                log.warning("%s %s failed on probation (%s): %s", self.name, revision, error, done)
                return True
        if isinstance(error, ModelError):
            self._damaged.add(source.folder)
            return True
        return False

    def _not_here(self) -> ModelNotFoundError:
        reason = self._failure or self._revisions.last_failure()
        failure = f" ({reason})" if reason else ""
        if self._missing:
            return ModelNotFoundError(
                f"the model {self.name!r} is not on this device yet{failure}; call "
                f"router.download() to fetch it from {self._missing}"
            )
        return ModelNotFoundError(
            f"no revision of {self.name!r} in the store at {self._revisions.root} can be used{failure}; "
            "download or install it again"
        )
