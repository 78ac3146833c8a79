"""How a router's model gets here and is updated. The delivery is imported when it is first used."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise.device.installed_model import InstalledModel
from edgewise.device.state import DeviceProbe
from edgewise.errors import ConfigurationError, RouterClosedError
from edgewise.generation.events import Event
from edgewise.generation.source import ModelAvailability
from edgewise.options import require_function
from edgewise.policy.types import Availability
from edgewise.router.update_options import UpdateOptions

if TYPE_CHECKING:
    from edgewise.delivery.background import BackgroundUpdates
    from edgewise.delivery.catalog import Catalog
    from edgewise.delivery.conditions import UpdatePolicy
    from edgewise.delivery.download import Clock
    from edgewise.delivery.progress import DownloadProgress, OnDownload
    from edgewise.delivery.remembered import ModelChannel
    from edgewise.delivery.settings import DownloadSettings
    from edgewise.delivery.update import UpdateResult
    from edgewise_edge.installed.store import ModelStore


class ModelUpdates:
    """Downloads and updates of a router's model: on request, and by a policy in the background.

    Nothing of a prompt is known here. `emit` is called with ModelEvents.
    """

    def __init__(
        self,
        model: InstalledModel,
        options: UpdateOptions,
        threads: int | None,
        device: DeviceProbe,
        emit: Callable[[Event], object],
    ) -> None:
        self._name, self._options, self._threads = model.name, options, threads
        self._model, self._device, self._emit = model, device, emit
        self._closed = threading.Event()
        self._progress: DownloadProgress | None = None
        self._background: BackgroundUpdates | None = None
        if options.update is not None:
            self._start(options.update)

    def download(self, on_progress: "OnDownload | None" = None) -> "UpdateResult":
        """As Router.download()."""
        if on_progress is not None:
            require_function("on_progress", on_progress, "a function of a DownloadProgress")
        from edgewise.delivery.download import Clock

        def report(progress: "DownloadProgress") -> None:
            if self._closed.is_set():
                raise RouterClosedError
            if on_progress:
                on_progress(progress)

        return self._update(Clock(sleep=self._sleep), report)

    def availability(self, found: ModelAvailability) -> ModelAvailability:
        """`found`, with what is being downloaded."""
        progress = self._progress
        if progress is None:
            return found
        status = found.status if found.status.usable else Availability.DOWNLOADING
        detail = f"{self._name} {progress.revision} is being downloaded"
        return replace(
            found, status=status, detail=detail, done=progress.done, total=progress.total
        )

    def close(self) -> None:
        """Stop what runs, at its next byte; what came is kept."""
        self._closed.set()
        if self._background:
            self._background.close()

    def _start(self, policy: "UpdatePolicy") -> None:
        from edgewise.delivery.background import BackgroundUpdates
        from edgewise.delivery.conditions.gather import read_conditions

        store = self._store()
        self._channel(store)  # to fail now
        self._background = BackgroundUpdates(
            self._name,
            self._update,
            store,
            policy,
            lambda: read_conditions(policy, store.root, self._device, self._is_idle),
            on_event=self._emit,
        )
        self._background.start()

    def _update(self, clock: "Clock", on_progress: "OnDownload") -> "UpdateResult":
        from edgewise.delivery.update import Updater

        def report(progress: "DownloadProgress") -> None:
            self._progress = progress
            on_progress(progress)

        if self._closed.is_set():
            raise RouterClosedError
        store = self._store()
        with self._catalog(store, clock) as catalog:
            updater = Updater(
                self._name,
                catalog,
                store,
                settings=self._options.download_settings,
                on_event=self._emit,
                threads=self._threads,
                clock=clock,
            )
            try:
                return updater.update(report)
            finally:
                self._progress = None

    @contextmanager
    def _catalog(self, store: "ModelStore", clock: "Clock") -> "Iterator[Catalog]":
        given = self._options.channel
        if given is not None and not isinstance(given, str | PathLike):
            yield given
            return
        from edgewise.delivery.catalog import open_catalog
        from edgewise.delivery.remembered import remember

        channel = self._channel(store)
        catalog = open_catalog(
            channel.address,
            store=store,
            root=self._options.channel_root,
            settings=self._settings(channel),
            clock=clock,
        )
        try:
            yield catalog
            remember(store, self._name, channel)
        finally:
            catalog.close()

    def _channel(self, store: "ModelStore") -> "ModelChannel":
        """The router's, or the one that the model came from. Raises ConfigurationError."""
        from edgewise.delivery.remembered import ModelChannel, recall

        if self._options.address:
            settings = self._options.download_settings
            return ModelChannel(
                address=self._options.address,
                token_file=_path(settings.token_file if settings else None),
                root_certificates=_path(settings.root_certificates if settings else None),
            )
        if known := recall(store, self._name):
            return known
        raise ConfigurationError(
            f"the model {self._name!r} has no channel to be updated from; set channel to its address"
        )

    def _settings(self, channel: "ModelChannel") -> "DownloadSettings":
        from edgewise.delivery.settings import DownloadSettings

        return self._options.download_settings or DownloadSettings(
            token_file=channel.token_file, root_certificates=channel.root_certificates
        )

    def _store(self) -> "ModelStore":
        from edgewise_edge.installed.store import ModelStore

        return ModelStore(self._options.root)

    def _is_idle(self) -> bool:
        return not self._model.in_use

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise RouterClosedError


def tell_switch(
    emit: Callable[[Event], object], name: str, revision: str, before: str | None, rolled_back: str
) -> None:
    """An OnSwitch (device/installed_model.py) that makes an event of it."""
    from edgewise.delivery.events import RevisionActivated, RevisionRolledBack

    now = time.time()
    if rolled_back:
        event: Event = RevisionRolledBack(
            model=name, revision=before, time=now, back_to=revision, reason=rolled_back
        )
    else:
        event = RevisionActivated(model=name, revision=revision, time=now, previous=before)
    emit(event)


def _path(file: "str | PathLike[str] | None") -> str | None:
    return None if file is None else str(Path(file).expanduser().absolute())
