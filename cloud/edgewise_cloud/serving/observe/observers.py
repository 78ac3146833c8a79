"""The observers of a server: its log, and metrics and traces if they are switched on."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewise_cloud.serving.observe.logs import RequestLog, log_download
from edgewise_cloud.serving.types import DownloadOutcome, Observer, RequestOutcome

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine

log = logging.getLogger("edgewise_cloud.serving.observing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObserverSettings:
    """Metrics and traces."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # None: no metrics; 0: any free port
    traces: bool = False


class ServiceObservers:
    """All observers of one server as one Observer, `more` included.

    Raises ServeError if traces are wanted and OpenTelemetry is not installed.
    """

    def __init__(
        self,
        settings: ObserverSettings,
        engines: "Callable[[], Sequence[Engine]]",
        more: Sequence[Observer] = (),
    ) -> None:
        self._settings = settings
        self.metrics_port: int | None = None  # the port that listens
        self._metrics = self._tracing = None
        self._observers: list[Observer] = [RequestLog(), *more]
        # Imported only if used: serving needs neither.
        if settings.metrics_port is not None:
            from edgewise_cloud.serving.observe.metrics import Metrics

            self._metrics = Metrics(engines)
            self._observers.append(self._metrics)
        if settings.traces:
            from edgewise_cloud.serving.observe.tracing import Tracing

            self._tracing = Tracing()
            self._observers.append(self._tracing)

    def token_sent(self, gap: float | None) -> None:
        """See Observer."""
        for observer in self._observers:
            observer.token_sent(gap)

    def request_ended(self, outcome: RequestOutcome) -> None:
        """See Observer."""
        for observer in self._observers:
            observer.request_ended(outcome)

    def download_ended(self, outcome: DownloadOutcome) -> None:
        """A download from the channel ended, in whatever way."""
        log_download(outcome)
        if self._metrics:
            self._metrics.download_ended(outcome)

    def start(self) -> None:
        """Serve the metrics. Raises ServeError if their port cannot be opened."""
        if self._metrics and self._settings.metrics_port is not None:
            self.metrics_port = self._metrics.listen(
                self._settings.metrics_host, self._settings.metrics_port
            )
            log.info("metrics on %s:%d", self._settings.metrics_host, self.metrics_port)

    async def close(self) -> None:
        """Send the last spans, then stop serving the metrics."""
        if self._tracing:
            await asyncio.to_thread(self._tracing.close)
        if self._metrics:
            await asyncio.to_thread(self._metrics.close)
