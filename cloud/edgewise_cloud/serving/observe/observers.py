"""Everything that watches a server: its log, and the metrics and traces it was asked for."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgewise_cloud.serving.observe.logs import RequestLog
from edgewise_cloud.serving.types import Observer, Observers

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine

log = logging.getLogger("edgewise_cloud.serving.observing")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservingSettings:
    """What to watch with."""

    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None  # None: no metrics; 0: any free port
    traces: bool = False


class Observing(Observers):
    """The observers of one server. Raises ServeError when traces lack their library."""

    def __init__(self, settings: ObservingSettings, engine: "Callable[[], Engine | None]") -> None:
        self._settings = settings
        self.metrics_port: int | None = None  # the port that listens
        self._metrics = self._tracing = None
        observers: list[Observer] = [RequestLog()]
        # Imported when asked for: neither is needed to serve.
        if settings.metrics_port is not None:
            from edgewise_cloud.serving.observe.metrics import Metrics

            self._metrics = Metrics(engine)
            observers.append(self._metrics)
        if settings.traces:
            from edgewise_cloud.serving.observe.tracing import Tracing

            self._tracing = Tracing(engine)
            observers.append(self._tracing)
        super().__init__(*observers)

    def start(self) -> None:
        """Show the metrics. Raises ServeError when their port cannot be had."""
        if self._metrics and self._settings.metrics_port is not None:
            self.metrics_port = self._metrics.listen(
                self._settings.metrics_host, self._settings.metrics_port
            )
            log.info("metrics on %s:%d", self._settings.metrics_host, self.metrics_port)

    async def close(self) -> None:
        """Send the last spans, then hide the metrics."""
        if self._tracing:
            await asyncio.to_thread(self._tracing.close)
        if self._metrics:
            await asyncio.to_thread(self._metrics.close)
