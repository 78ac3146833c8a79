"""A request that is changed in mid-text: made private, or given another budget."""

import asyncio
import random
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import pytest

from edgewise import (
    DeviceState,
    NoSourceError,
    Privacy,
    RequestError,
    Router,
    StreamNotStartedError,
)
from edgewise.generation.attempt import Attempt
from edgewise.generation.events import AttemptEnded, Decided, Event, HandedOver, Outcome
from edgewise.generation.request import PrivateRequest
from edgewise.policy.types import Source, VetoCode
from edgewise.testing import (
    Script,
    ScriptedCloud,
    ScriptedDevice,
    completes,
    fails_after,
    hangs_after,
    waits_for,
)
from tests.router.generation.fakes import CLOUD, DEVICE, read

TEXT = "the answer"
PREFERS = {DEVICE: "prefer_on_device", CLOUD: "prefer_in_cloud"}


class Both:
    """A router on a device and a cloud with these scripts, and its events."""

    def __init__(self, *, device: Script = completes, cloud: Script = completes) -> None:
        self.device, self.cloud = ScriptedDevice(TEXT, device), ScriptedCloud(TEXT, cloud)
        self.events: list[Event] = []
        self.router = Router(
            self.device, cloud=self.cloud, device=DeviceState, observers=[self.events.append]
        )

    def of(self, kind: type[Event]) -> list[Event]:
        """The events of one class."""
        return [event for event in self.events if isinstance(event, kind)]


def test_cloud_that_writes_is_stopped_and_the_device_continues() -> None:
    """At the next token; decision and events say why."""
    both = Both(cloud=hangs_after(4))
    stream = both.router.stream("Once", mode="prefer_in_cloud")
    begun = "".join(chunk.text for chunk in islice(stream, 4))
    threading.Timer(0.01, stream.change, kwargs={"privacy": "private"}).start()
    assert begun + read(stream) == TEXT
    assert [(part.source, part.tokens) for part in stream.generation.segments] == [
        (CLOUD, 4),
        (DEVICE, len(TEXT) - 4),
    ]
    assert len(both.cloud.requests) == 1
    assert isinstance(stream.request, PrivateRequest)
    assert stream.decision.vetoes[CLOUD].code is VetoCode.PRIVATE
    assert stream.abandoned[CLOUD].code is VetoCode.PRIVATE
    (moved,) = both.of(HandedOver)
    assert (moved.source, moved.tokens, moved.why) == (DEVICE, 4, VetoCode.PRIVATE)
    assert [event.privacy for event in both.of(Decided)] == [Privacy.ALLOW_CLOUD, Privacy.PRIVATE]
    assert {moved.privacy, both.events[-1].privacy} == {Privacy.PRIVATE}


def test_cloud_that_has_not_started_gets_nothing() -> None:
    """The change comes before the first token is asked for."""
    both = Both()
    stream = both.router.stream("Once", mode="prefer_in_cloud")
    stream.change(privacy="private")
    assert read(stream) == TEXT
    assert not both.cloud.requests


def test_device_that_writes_continues() -> None:
    """The decision tells that the cloud is closed now, and nothing moves; also if it fails later."""
    both = Both(device=fails_after(4))
    stream = both.router.stream("Once")
    next(stream)
    stream.change(privacy="private")
    assert stream.decision.vetoes[CLOUD].code is VetoCode.PRIVATE
    with pytest.raises(NoSourceError):
        read(stream)
    assert not both.cloud.requests


def test_where_only_the_cloud_may_answer_the_text_ends() -> None:
    """With the refusal that says so; what was written is kept."""
    both = Both(cloud=hangs_after(4))
    stream = both.router.stream("Once", mode="only_in_cloud")
    list(islice(stream, 4))
    stream.change(privacy="private")
    with pytest.raises(NoSourceError) as error:
        next(stream)
    assert error.value.vetoes[CLOUD].code is VetoCode.PRIVATE
    assert stream.generation.text == TEXT[:4]
    assert len(both.cloud.requests) == 1


@pytest.mark.parametrize("first", Source)
def test_hedge_in_the_cloud_is_stopped(first: Source) -> None:
    """Whether the cloud was started first or second; the device's attempt goes on."""
    waiting, changed = threading.Event(), threading.Event()
    both = Both(device=waits_for(changed), cloud=hangs_after(0, waiting))
    stream = both.router.stream("Once", hedge_after=0.01, mode=PREFERS[first])

    def change() -> None:
        waiting.wait()
        stream.change(privacy="private")
        changed.set()

    threading.Thread(target=change).start()
    assert read(stream) == TEXT
    assert len(both.cloud.requests) == 1
    ended = {event.source: event.outcome for event in both.of(AttemptEnded)}
    assert ended[DEVICE] is Outcome.FINISHED
    assert ended[CLOUD] in {Outcome.HANDED_OVER, Outcome.LOST}  # LOST: the device had its token


def test_no_hedge_starts_in_the_cloud_afterwards() -> None:
    """The device is alone from then on, however long it takes."""
    slowly = threading.Event()
    both = Both(device=waits_for(slowly))
    stream = both.router.stream("Once", hedge_after=0.01)
    stream.change(privacy="private")
    threading.Timer(0.03, slowly.set).start()
    assert read(stream) == TEXT
    assert not both.cloud.requests


def slow_steps(tokens: Iterator[int], _attempt: Attempt) -> Iterator[int]:
    """A script: give other threads a chance before each token."""
    for token in tokens:
        time.sleep(0)
        yield token


@pytest.mark.parametrize("hedge_after", [None, 1e-6])
@pytest.mark.parametrize("first", Source)
def test_no_race_lets_anything_out_after_the_change(
    first: Source, hedge_after: float | None
) -> None:
    """Whatever the generation is doing: once `change` has returned, the cloud gets no request."""
    chance = random.Random(17)
    for _ in range(100):
        both = Both(device=fails_after(1) if first is DEVICE else slow_steps, cloud=slow_steps)
        stream = both.router.stream("Once", mode=PREFERS[first], hedge_after=hedge_after)
        started = threading.Barrier(2)

        def reading(stream: object = stream, started: threading.Barrier = started) -> None:
            started.wait()
            with suppress(NoSourceError):  # where the device had failed
                read(stream)

        reader = threading.Thread(target=reading)
        reader.start()
        started.wait()
        time.sleep(chance.choice([0, 1e-5, 1e-4, 3e-4, 1e-3]))
        stream.change(privacy="private")
        sent = len(both.cloud.requests)
        reader.join()
        both.cloud.wait_until_idle()
        assert len(both.cloud.requests) == sent


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": "allow_cloud"}, "privacy is 'allow_cloud'; .* can only become 'private'"),
        ({"privacy": "secret"}, "privacy is 'secret'"),
        ({"privacy": ["private"]}, r"privacy is \['private'\]; .* can only become 'private'"),
        ({"latency_budget": 0}, "latency_budget is 0; it must be"),
        ({"first_token_budget": "soon"}, "first_token_budget is 'soon'"),
    ],
)
def test_invalid_change_is_refused(changes: dict[str, object], message: str) -> None:
    """And changes nothing."""
    stream = Both().router.stream("Once")
    before = stream.request
    with pytest.raises(RequestError, match=message):
        stream.change(**changes)
    assert stream.request is before


def test_change_after_the_end_does_nothing() -> None:
    """The generation stays what it was."""
    stream = Both().router.stream("Once", mode="prefer_in_cloud")
    read(stream)
    stream.change(privacy="private")
    assert stream.request.privacy is Privacy.ALLOW_CLOUD
    assert stream.decision.source is CLOUD


def test_new_budget_is_checked_at_once() -> None:
    """A device that will miss it hands off, though it had no budget before."""
    device = ScriptedDevice(TEXT, hangs_after(2), first_token=30.0, gap=30.0)
    cloud = ScriptedCloud(TEXT, first_token=0.001, gap=0.001)
    with Router(device, cloud=cloud, device=DeviceState) as router:
        stream = router.stream("Once", max_tokens=20)
        list(islice(stream, 2))
        stream.change(latency_budget=10)
        assert read(stream) == TEXT[2:]
    assert stream.abandoned[DEVICE].code is VetoCode.TOO_SLOW


def test_async_stream_is_changed_from_its_event_loop() -> None:
    """Once it has been started, which `start` does without a chunk."""
    both = Both(cloud=hangs_after(4))

    async def run() -> tuple[str, dict[Source, object]]:
        stream = both.router.astream("Once", mode="prefer_in_cloud")
        with pytest.raises(StreamNotStartedError):
            stream.change(privacy="private")
        await stream.start()
        assert stream.decision.source is CLOUD
        text = ""
        async for chunk in stream:
            text += chunk.text
            if len(text) == 4:
                asyncio.get_running_loop().call_later(
                    0.01, lambda: stream.change(privacy="private")
                )
        return text, stream.abandoned

    text, abandoned = asyncio.run(run())
    assert text == TEXT
    assert list(abandoned) == [CLOUD]
