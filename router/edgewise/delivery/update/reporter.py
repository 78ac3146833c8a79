"""Tells observers what an update does."""

import logging
import time
from collections.abc import Callable
from typing import Any

from edgewise.delivery.events import DownloadProgressed, ModelEvent, OnEvent
from edgewise.delivery.progress import EVENT_INTERVAL, DownloadProgress, OnDownload

_log = logging.getLogger("edgewise.delivery")


class Reporter:
    """Makes the events of the model `name`. An error of `on_event` is logged and stops nothing."""

    def __init__(self, name: str, on_event: OnEvent | None, now: Callable[[], float]) -> None:
        self._name, self._on_event, self._now = name, on_event, now

    def emit(self, kind: type[ModelEvent], revision: str | None, **fields: Any) -> None:
        """An event, with these fields."""
        event = kind(model=self._name, revision=revision, time=time.time(), **fields)
        _log.debug("%s", event)
        if self._on_event:
            try:
                self._on_event(event)
            except Exception as error:  # noqa: BLE001
                # Only the error's type: its message could quote anything.
                _log.warning("an observer failed: %s", type(error).__name__)

    def download(self, on_progress: OnDownload | None) -> OnDownload:
        """For each chunk: `on_progress`, whose errors do stop it, and an event now and then."""
        last = float("-inf")

        def report(progress: DownloadProgress) -> None:
            nonlocal last
            if on_progress:
                on_progress(progress)
            now = self._now()
            if now - last >= EVENT_INTERVAL or progress.done == progress.total:
                last = now
                self.emit(
                    DownloadProgressed,
                    progress.revision,
                    done=progress.done,
                    total=progress.total,
                    rate=progress.rate,
                )

        return report
