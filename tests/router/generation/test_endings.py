"""However a generation ends: it is reported once, and nothing keeps running."""

import asyncio
import gc
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from edgewise import (
    AsyncTextStream,
    AttemptEnded,
    Completed,
    Decided,
    Event,
    NoSourceError,
    Router,
    TextStream,
)
from edgewise.errors import PrivacyError
from edgewise.generation.events import Outcome
from edgewise.generation.hedge import Hedge, HedgedAttempt
from edgewise.metrics import Metrics
from edgewise.testing import (
    Attempt,
    Script,
    ScriptedCloud,
    ScriptedDevice,
    completes,
    ends_after,
    fails_after,
    hands_off_after,
    hangs_after,
    waits_for,
)
from edgewise.tracing import Tracing

TEXT = "it ends"
SOON = 0.001  # seconds
BUGS = (TypeError, AttributeError, KeyError, AssertionError, PrivacyError)


class App:
    """A router on scripted sources, whose events, metrics and spans are kept."""

    def __init__(self, device: Script = completes, cloud: Script = completes) -> None:
        self.opened: list[Attempt] = []
        self.device = ScriptedDevice(TEXT, device)
        self.cloud = ScriptedCloud(TEXT, cloud)
        for source in (self.device, self.cloud):
            source.open = self._recording(source.open)
        self.events: list[Event] = []
        self.registry = CollectorRegistry()
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.router = Router(
            self.device,
            cloud=self.cloud,
            # In this order: a test that waits for an event in the list finds the others told.
            observers=[Metrics(self.registry), Tracing(provider), self.events.append],
        )

    def _recording(self, open_attempt: Callable[..., Attempt]) -> Callable[..., Attempt]:
        def recorded(*arguments: object, **options: object) -> Attempt:
            attempt = open_attempt(*arguments, **options)
            self.opened.append(attempt)
            return attempt

        return recorded

    def of_kind(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]

    def assert_ended(self) -> None:
        """Once for every observer, with every attempt; and nothing runs."""
        for source in (self.device, self.cloud):
            source.wait_until_idle()
        assert self.of_kind(Decided)
        assert self.of_kind(Completed) == self.events[-1:]
        ended = Counter(event.source for event in self.of_kind(AttemptEnded))
        assert ended == Counter(attempt.source for attempt in self.opened)
        completed = [
            sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == "edgewise_router_requests_total"
        ]
        assert sum(completed) == 1
        names = Counter(span.name.split()[0] for span in self.exporter.get_finished_spans())
        assert names == Counter({"text_completion": 1, "attempt": len(self.opened)})


@dataclass
class Bug:
    """A script that raises what no source should, and whether it has."""

    kind: type[BaseException]
    after: int
    raised: bool = field(default=False, init=False)

    def __call__(self, tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        try:
            yield from fails_after(self.after, self.kind("a secret"))(tokens, attempt)
        except self.kind:
            self.raised = True
            raise


few = st.integers(0, 2)
scripts = st.one_of(
    st.just(completes),
    few.map(fails_after),
    few.map(ends_after),
    few.map(hands_off_after),
    few.map(hangs_after),
    st.builds(Bug, st.sampled_from(BUGS), few),
)


def await_condition(holds: Callable[[], object]) -> None:
    """For at most five seconds; what is tested afterwards says what is missing."""
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.005)


def read(stream: TextStream, count: int = 100) -> None:
    with suppress(NoSourceError, *BUGS):
        for _ in zip(range(count), stream, strict=False):
            pass


def raises_while_reading(stream: TextStream, count: int) -> None:
    with suppress(NoSourceError, ZeroDivisionError, *BUGS), stream:
        read(stream, count)
        raise ZeroDivisionError


def in_a_cycle(stream: TextStream, count: int) -> None:
    read(stream, count)
    cycle = [stream]
    cycle.append(cycle)
    del stream, cycle


ENDINGS: dict[str, Callable[[TextStream, int], None]] = {
    "read, then dropped": read,
    "closed": lambda stream, count: (read(stream, count), stream.close()),
    "dropped in a cycle": in_a_cycle,
    "the consumer raises": raises_while_reading,
    "read to the end": lambda stream, _: read(stream),
}


@settings(max_examples=40, deadline=None)
@given(
    device=scripts,
    cloud=scripts,
    device_waits=st.booleans(),
    cloud_waits=st.booleans(),
    hedge_after=st.sampled_from([None, SOON]),
    ending=st.sampled_from(list(ENDINGS)),
    count=few,
)
def test_every_ending_is_reported_once(
    device: Script,
    cloud: Script,
    device_waits: bool,
    cloud_waits: bool,
    hedge_after: float | None,
    ending: str,
    count: int,
) -> None:
    """Whatever the sources do, in whatever order, and wherever the app stops reading."""
    go = threading.Event()
    app = App(
        waits_for(go, device) if device_waits else device,
        waits_for(go, cloud) if cloud_waits else cloud,
    )
    stream = app.router.stream("A", hedge_after=hedge_after)
    closer = threading.Timer(0.02, stream.close)  # of a hang
    opener = threading.Timer(0.005, go.set)
    closer.start()
    opener.start()
    ENDINGS[ending](stream, count)
    closer.join()  # it holds the stream
    opener.join()
    del stream, closer
    if ending == "dropped in a cycle":
        gc.collect()
    app.assert_ended()


@pytest.mark.parametrize("kind", [*BUGS, SystemExit])
@pytest.mark.parametrize("last", ["the bug", "the answer"])
@pytest.mark.parametrize("source", ["device", "cloud"])
def test_bug_in_a_hedged_source_reaches_the_app(
    kind: type[BaseException], last: str, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As without hedging; where the other source has a token already, it is logged."""
    started, go = threading.Event(), threading.Event()
    bug = Bug(kind, after=0)

    def other(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        started.set()
        yield from waits_for(go)(tokens, attempt)

    def late(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from waits_for(started, bug)(tokens, attempt)

    if last == "the answer":
        pair = [late, other]
    else:

        def late_bug(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
            started.set()
            attempt.stop.wait(10)  # it has lost
            yield from bug(tokens, attempt)

        pair = [late_bug, waits_for(started)]
    app = App(*(pair if source == "device" else reversed(pair)))
    if last == "the answer":
        with pytest.raises(kind):
            app.router.generate("A", hedge_after=SOON)
        assert app.of_kind(Completed)[0].finish_reason == (
            "error" if issubclass(kind, Exception) else "cancelled"
        )
    else:
        assert app.router.generate("A", hedge_after=SOON).text == TEXT
        await_condition(lambda: caplog.records)
        assert kind.__name__ in caplog.text
        assert caplog.records[0].levelno == logging.ERROR
    assert bug.raised
    assert "a secret" not in caplog.text
    app.assert_ended()


def test_source_that_ends_early_in_a_hedge_has_failed() -> None:
    """As without hedging: it did not lose, and it is not tried again."""
    cloud_runs = threading.Event()

    def answers_later(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        cloud_runs.set()
        while app.device.running:
            threading.Event().wait(SOON)
        yield from fails_after(2)(tokens, attempt)

    app = App(waits_for(cloud_runs, ends_after(0)), answers_later)
    with pytest.raises(NoSourceError, match="stopped before the answer was finished"):
        app.router.generate("A", hedge_after=SOON)
    assert {event.outcome for event in app.of_kind(AttemptEnded)} == {Outcome.FAILED}
    assert len(app.opened) == 2
    app.assert_ended()


class Interrupts(Hedge):
    """Ctrl-C comes while the reader waits for the second source."""

    def wait(self, timeout: float | None = None) -> HedgedAttempt | None:
        """See Hedge."""
        if timeout is None and self.count < len(self._attempts):
            raise KeyboardInterrupt
        return super().wait(timeout)


def test_interrupt_after_a_failure_in_a_hedge_reports_each_attempt_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The one that has failed is not reported again as cancelled."""
    monkeypatch.setattr("edgewise.generation.hedge.Hedge", Interrupts)
    cloud_runs = threading.Event()
    app = App(waits_for(cloud_runs, fails_after(0)), hangs_after(0, cloud_runs))
    with pytest.raises(KeyboardInterrupt):
        app.router.generate("A", hedge_after=SOON)
    outcomes = [(event.source, event.outcome) for event in app.of_kind(AttemptEnded)]
    assert outcomes == [("on_device", "failed"), ("in_cloud", "cancelled")]
    app.assert_ended()


def test_closing_while_both_sources_run_cancels_both() -> None:
    """Neither had a token, so neither has lost."""
    runs = [threading.Event(), threading.Event()]
    app = App(*(hangs_after(0, event) for event in runs))
    stream = app.router.stream("A", hedge_after=SOON)
    reader = threading.Thread(target=read, args=(stream,))
    reader.start()
    for event in runs:
        event.wait()
    stream.close()
    reader.join()
    assert {event.outcome for event in app.of_kind(AttemptEnded)} == {Outcome.CANCELLED}
    app.assert_ended()


def test_callback_that_raises_does_not_keep_the_other_source_running() -> None:
    """Closing stops both, and then raises."""
    runs = [threading.Event(), threading.Event()]

    def hangs(event: threading.Event) -> Script:
        def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
            attempt.stop.add_callback(lambda: 1 / 0)
            yield from hangs_after(0, event)(tokens, attempt)

        return script

    app = App(*map(hangs, runs))
    stream = app.router.stream("A", hedge_after=SOON)
    reader = threading.Thread(target=read, args=(stream,))
    reader.start()
    for event in runs:
        event.wait()
    with pytest.raises(ZeroDivisionError):
        stream.close()
    reader.join()
    app.assert_ended()


ASYNC_ENDINGS = ["dropped", "closed", "loop closed", "cancelled"]


@pytest.mark.parametrize("ending", ASYNC_ENDINGS)
@pytest.mark.parametrize("count", [1, 2])
def test_every_ending_of_an_async_stream_is_reported_once(count: int, ending: str) -> None:
    """Also where the event loop is closed under a task that reads it; then after that step."""
    waits, go = threading.Event(), threading.Event()

    def pauses(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, count)
        waits.set()
        yield from waits_for(go)(tokens, attempt)

    app = App(pauses)

    async def read_on(stream: AsyncTextStream) -> None:
        async for _ in stream:
            pass

    async def use(stream: AsyncTextStream) -> asyncio.Task[None] | None:
        for _ in range(count):
            await anext(stream)
        if ending == "closed":
            await stream.aclose()
        if ending not in {"loop closed", "cancelled"}:
            return None
        task = asyncio.create_task(read_on(stream))
        await asyncio.to_thread(waits.wait)
        if ending == "cancelled":
            task.cancel()
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(use(app.router.astream("A")))
    if ending == "cancelled":
        with suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    del task
    go.set()
    await_condition(lambda: gc.collect() >= 0 and app.of_kind(Completed))
    app.assert_ended()
