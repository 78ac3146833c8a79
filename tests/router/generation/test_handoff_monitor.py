"""The handoff monitor: when a running attempt hands off, and when the monitor's thread ends."""

import gc
import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from edgewise.device.limits import Limits
from edgewise.errors import NoSourceError
from edgewise.generation.attempt import Attempt
from edgewise.generation.handoff_monitor import HandoffMonitor
from edgewise.generation.stream import TextStream
from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    Decision,
    DeviceState,
    NoSource,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise.testing import completes, fails_after, hangs_after, waits_for
from edgewise_edge import FinishReason
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    HANDOFF,
    FakeAdvisor,
    Sources,
    new_cloud,
    new_device,
    new_source,
    new_stream,
    read,
    tokens_of,
)
from tests.router.policy.situations import CLOUD as CLOUD_STATE
from tests.router.policy.situations import EDGE as EDGE_STATE

TEXT = "watched by a monitor while it runs"
IDS = tokens_of(TEXT)
HOT = DeviceState(temperature=120.0)
DRAINED = DeviceState(battery=0.01, charging=False)


class RealPolicyAdvisor:
    """An advisor that applies the real policy to a device state which a test may change."""

    def __init__(self) -> None:
        self.device, self.limits, self.what_if = DeviceState(), Limits(), False
        self._checks = 0
        self._checked = threading.Condition()

    def decide(self, request: RoutingRequest, _token_ids: Sequence[int]) -> Decision | NoSource:
        """See Advisor."""
        return decide(request, self.device, EDGE_STATE, CLOUD_STATE, self.limits)

    def reconsider(
        self,
        decision: Decision,
        progress: Progress,
        request: RoutingRequest,
        _token_ids: Sequence[int],
    ) -> Veto | None:
        """See Advisor."""
        veto = reconsider(
            decision, progress, request, self.device, EDGE_STATE, CLOUD_STATE, self.limits
        )
        with self._checked:
            self._checks += 1
            self._checked.notify_all()
        return veto

    def completes_after_two_checks(self, tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        """A script: generate a token, wait for two checks by the monitor, then the rest."""
        yield next(tokens)
        with self._checked:
            enough = self._checks + 2
            self._checked.wait_for(lambda: self._checks >= enough)
        yield from completes(tokens, attempt)


def new_monitored_stream(
    sources: Sources, advisor: FakeAdvisor | RealPolicyAdvisor, **options: object
) -> TextStream:
    """A new stream with a budget that is never missed: the monitor then checks more often."""
    return new_stream(sources, advisor, latency_budget=3600.0, **options)


def monitor_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "edgewise-monitor"}


def new_attempt() -> Attempt:
    return Attempt(DEVICE, 1, 1, lambda _attempt: iter(()))


@pytest.mark.parametrize("first", Source)
@pytest.mark.parametrize("after", [0, 1, 9])
def test_veto_of_the_monitor_moves_the_generation(first: Source, after: int) -> None:
    """A source that hangs is stopped, and the other continues at the next token."""
    sources = {
        first: new_source(first, TEXT, hangs_after(after)),
        first.other: new_source(first.other, TEXT),
    }

    def check(_progress: Progress, generated: Sequence[int]) -> Veto | None:
        on_first = sources[first].requests and not sources[first.other].requests
        return HANDOFF if on_first and len(generated) == after else None

    advisor = FakeAdvisor(first.other, check=check)
    stream = new_monitored_stream(sources, advisor, decision=first)
    assert read(stream) == TEXT
    assert [(part.source, part.tokens) for part in stream.generation.segments] == [
        part for part in ((first, after), (first.other, len(IDS) - after)) if part[1]
    ]
    assert advisor.requests[0].abandoned == {first: HANDOFF}


def test_generation_that_left_a_hot_device_does_not_return() -> None:
    """The monitor also checks the cloud's attempt, and lets it complete the answer."""
    advisor = RealPolicyAdvisor()

    def overheats(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        advisor.device = HOT
        yield from hangs_after(4)(tokens, attempt)

    sources = {
        DEVICE: new_device(TEXT, overheats),
        CLOUD: new_cloud(TEXT, advisor.completes_after_two_checks),
    }
    stream = new_monitored_stream(sources, advisor)
    assert read(stream) == TEXT
    assert [part.source for part in stream.generation.segments] == [DEVICE, CLOUD]
    assert stream.decision.vetoes[DEVICE].code is VetoCode.TEMPERATURE


def test_generation_returns_to_a_low_battery_only_as_a_last_resort() -> None:
    """When the cloud has failed; it then stays on the device."""
    advisor = RealPolicyAdvisor()

    def drains(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        advisor.device = DRAINED
        yield from hangs_after(4)(tokens, attempt)

    sources = {
        DEVICE: new_device(TEXT, drains, advisor.completes_after_two_checks),
        CLOUD: new_cloud(TEXT, fails_after(5)),
    }
    stream = new_monitored_stream(sources, advisor)
    assert read(stream) == TEXT
    assert [(part.source, part.tokens) for part in stream.generation.segments] == [
        (DEVICE, 4),
        (CLOUD, 5),
        (DEVICE, len(IDS) - 9),
    ]
    assert stream.decision.reason is Reason.LAST_RESORT


def test_single_source_is_not_monitored() -> None:
    """There is no other source to hand off to."""
    before = monitor_threads()
    stream = new_monitored_stream({DEVICE: new_device(TEXT)}, FakeAdvisor())
    next(stream)
    assert not monitor_threads() - before


@pytest.mark.parametrize("ending", ["read", "closed", "dropped", "failed"])
def test_monitor_ends_with_the_attempt(ending: str) -> None:
    """However the generation ends."""
    script = fails_after(3) if ending == "failed" else completes
    before = monitor_threads()
    stream = new_monitored_stream(
        {DEVICE: new_device(TEXT, script), CLOUD: new_cloud(TEXT)}, FakeAdvisor()
    )
    next(stream)
    (monitor,) = monitor_threads() - before
    if ending == "closed":
        stream.close()
    elif ending == "read":
        read(stream)
    elif ending == "failed":
        with pytest.raises(NoSourceError):
            read(stream)
    del stream
    monitor.join()


def test_veto_after_the_end_changes_nothing() -> None:
    """A check that is still running then returns for an attempt that has ended."""
    checking, finished = threading.Event(), threading.Event()

    def check(_progress: Progress, _generated: Sequence[int]) -> Veto | None:
        checking.set()
        finished.wait()
        return HANDOFF

    before = monitor_threads()
    attempts = []

    def waits_for_check(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        attempts.append(attempt)
        yield from waits_for(checking)(tokens, attempt)

    sources = {DEVICE: new_device(TEXT, waits_for_check), CLOUD: new_cloud(TEXT)}
    stream = new_monitored_stream(sources, FakeAdvisor(check=check))
    assert read(stream) == TEXT
    finished.set()
    for monitor in monitor_threads() - before:
        monitor.join()
    assert attempts[0].handoff is HANDOFF
    assert stream.generation.finish_reason is FinishReason.STOP
    assert [part.source for part in stream.generation.segments] == [DEVICE]


def test_closed_stream_is_not_handed_off() -> None:
    """The policy is not asked for another source, whatever the monitor finds."""
    streams: list[TextStream] = []

    def closed_and_handed_off(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, 2)
        streams[0].close()
        attempt.hand_off(HANDOFF)

    advisor = FakeAdvisor(CLOUD)
    sources = {DEVICE: new_device(TEXT, closed_and_handed_off), CLOUD: new_cloud(TEXT)}
    streams.append(new_monitored_stream(sources, advisor))
    assert read(streams[0]) == TEXT[:2]
    assert streams[0].generation.finish_reason is FinishReason.CANCELLED
    assert not advisor.requests


def test_monitor_checks_until_the_first_veto() -> None:
    """It hands off once and ends."""
    attempt, vetoes = new_attempt(), iter([None, None, HANDOFF])
    before = monitor_threads()
    with HandoffMonitor(attempt, lambda: next(vetoes), 0.001):
        attempt.stop.wait()
        for monitor in monitor_threads() - before:
            monitor.join()
    assert attempt.handoff is HANDOFF


def test_monitor_continues_after_a_check_that_raises() -> None:
    """A probe that cannot read now may be able to at the next check."""
    attempt, results = new_attempt(), iter([OSError("no such file"), HANDOFF])

    def check() -> Veto:
        result = next(results)
        if isinstance(result, Exception):
            raise result
        return result

    with HandoffMonitor(attempt, check, 0.001):
        attempt.stop.wait()
    assert attempt.handoff is HANDOFF


@pytest.fixture
def eager_collection() -> Iterator[None]:
    """Garbage is collected at nearly every allocation of a container, in whatever thread."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()  # so that each collection is quick
    yield
    gc.set_threshold(*thresholds)
    gc.enable()
    gc.unfreeze()


def test_stream_collected_in_its_monitor_thread_ends(eager_collection: None) -> None:
    """The monitor's wait holds no lock that ending it needs."""
    for _ in range(5):
        source = new_device(TEXT)
        cycle: list[object] = []
        gc.disable()
        stream = new_monitored_stream({DEVICE: source, CLOUD: new_cloud(TEXT)}, FakeAdvisor())
        next(stream)
        cycle += [cycle, stream]
        del cycle, stream
        time.sleep(0.12)  # the monitor checks twice, and nothing else runs
        gc.set_threshold(1, 1, 1)
        gc.enable()
        time.sleep(0.06)  # the next allocations are the monitor's
        gc.disable()
        gc.collect()  # where the monitor did not run in that time
        source.wait_until_idle(60)


def test_monitor_that_overslept_takes_no_source_for_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole process was frozen, and the attempt is told before it is checked."""
    thawed, checked = list[float | None](), threading.Event()
    attempt = Attempt(Source.IN_CLOUD, 3, 9, lambda _attempt: iter(()))

    def check() -> None:
        thawed.append(attempt.thawed_at)
        checked.set()

    clock = itertools.count(0.0, 60.0)  # seconds from one look at it to the next
    monkeypatch.setattr("edgewise.generation.handoff_monitor.monotonic", lambda: next(clock))
    with HandoffMonitor(attempt, check, 0.01):
        checked.wait()
    assert thawed[0] is not None
