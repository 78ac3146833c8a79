"""Prometheus metrics of the service, on a port of their own."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIServer

import grpc
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.metrics_core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from edgewise_cloud.errors import ServeError
from edgewise_cloud.serving.types import DownloadOutcome, RequestOutcome

if TYPE_CHECKING:
    from edgewise_cloud.serving.engine.engine import Engine
    from edgewise_cloud.serving.engine.request import EngineLoad

# Seconds. A step takes tens of milliseconds, so most buckets are there.
GAPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.06, 0.08),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5),
)
FIRST_TOKENS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75),
    *(1, 1.5, 2.5, 5, 10, 20, 30, 60),
)
QUEUE_TIMES = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
TOTAL_TIMES = (0.05, 0.1, 0.25, 0.5, 1, 1.5, 2.5, 5, 7.5, 10, 15, 20, 30, 60, 120, 300)
SCRAPE_TIMEOUT = 5.0  # seconds for the event loop to report the load


class Metrics:
    """An Observer that counts requests for Prometheus. `engines` gives the engines, once loaded.

    The names end as vLLM's do, so that its dashboards need only another prefix.
    """

    def __init__(self, engines: "Callable[[], Sequence[Engine]]") -> None:
        self.registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests ended, by gRPC status code.", "code")
        for code in grpc.StatusCode:  # a rate needs the zero before the first error
            self._requests.labels(code.name)
        self._prompt_tokens = self._counter(
            "prompt_tokens", "Tokens to prefill, including cached ones."
        )
        self._cached_tokens = self._counter(
            "prefix_cache_hit_tokens", "Of them, tokens found in the prefix cache."
        )
        self._generated_tokens = self._counter("generation_tokens", "Tokens sent.")
        self._queue_time = self._histogram(
            "request_queue_time", "From arrival until work began.", QUEUE_TIMES
        )
        self._first_token = self._histogram(
            "time_to_first_token", "From arrival to the first token.", FIRST_TOKENS
        )
        self._gaps = self._histogram("inter_token_latency", "Between two tokens.", GAPS)
        self._total_time = self._histogram(
            "e2e_request_latency", "From arrival to the end, whatever the outcome.", TOTAL_TIMES
        )
        self._downloads = self._counter(
            "downloads", "Downloads from the channel ended, by gRPC status code.", "code"
        )
        self._download_bytes = self._counter("download_bytes", "Bytes of the channel sent.")
        self._engine_collector = _EngineCollector(engines)
        self.registry.register(self._engine_collector)
        ProcessCollector(registry=self.registry)
        self._listening: tuple[WSGIServer, threading.Thread] | None = None

    def token_sent(self, gap: float | None) -> None:
        """See Observer."""
        self._generated_tokens.inc()
        if gap is not None:
            self._gaps.observe(gap)

    def request_ended(self, outcome: RequestOutcome) -> None:
        """See Observer."""
        self._requests.labels(outcome.code.name).inc()
        self._total_time.observe(outcome.total_time)
        if outcome.queue_time is not None:  # a refused request was not prefilled
            self._prompt_tokens.inc(outcome.prompt_tokens)
            self._cached_tokens.inc(outcome.cached_tokens)
            self._queue_time.observe(outcome.queue_time)
        if outcome.time_to_first_token is not None:
            self._first_token.observe(outcome.time_to_first_token)

    def download_ended(self, outcome: DownloadOutcome) -> None:
        """Count a download from the channel."""
        self._downloads.labels(outcome.code.name).inc()
        self._download_bytes.inc(outcome.sent)

    def listen(self, host: str, port: int) -> int:
        """Serve them over HTTP; the port. Call it on the engine's event loop. Raises ServeError."""
        self._engine_collector.loop = asyncio.get_running_loop()
        try:
            self._listening = start_http_server(port, host, self.registry)
        except (OSError, UnicodeError) as error:
            raise ServeError(
                f"cannot show metrics on {host}:{port}: {error}; choose another --metrics-port "
                "(0 takes any free one) or --metrics-host"
            ) from error
        return self._listening[0].server_port

    def close(self) -> None:
        """Stop serving them."""
        if self._listening:
            server, thread = self._listening
            self._listening = None
            server.shutdown()
            server.server_close()
            thread.join()

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace="edgewise", registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            name,
            text,
            namespace="edgewise",
            unit="seconds",
            registry=self.registry,
            buckets=buckets,
        )


class _EngineCollector(Collector):
    """The engines' load together and their models at each scrape; zeros while they load."""

    def __init__(self, engines: "Callable[[], Sequence[Engine]]") -> None:
        self._engines = engines
        self.loop: asyncio.AbstractEventLoop | None = None  # the engines'

    def collect(self) -> Iterator[Metric]:
        loads = self._loads()
        for name, text, value in (
            ("num_requests_running", "Running requests.", sum(load.running for load in loads)),
            ("num_requests_waiting", "Waiting requests.", sum(load.waiting for load in loads)),
            (
                "slots",
                "Requests that can run at once; 0 while loading.",
                sum(load.slots for load in loads),
            ),
        ):
            yield GaugeMetricFamily(f"edgewise_{name}", text, value)
        if engines := self._engines():
            served = InfoMetricFamily("edgewise_model", "The models being served.")
            for model in (engine.model for engine in engines):
                labels = {"name": model.name, "revision": model.revision, "engine": model.engine}
                served.add_metric([], labels)
            yield served

    def _loads(self) -> "list[EngineLoad]":
        """Scrapes run on threads of their own. They fail if the event loop hangs, as they should."""

        async def current_loads() -> "list[EngineLoad]":
            return [engine.current_load() for engine in self._engines()]

        if self.loop is None:
            return []
        return asyncio.run_coroutine_threadsafe(current_loads(), self.loop).result(SCRAPE_TIMEOUT)
