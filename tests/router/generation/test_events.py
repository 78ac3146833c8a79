"""The events of a generation: which ones, in which order, with which values."""

from itertools import islice

import pytest

from edgewise.errors import NoSourceError
from edgewise.generation.events import (
    AttemptEnded,
    Completed,
    Decided,
    Event,
    HandedOver,
    Outcome,
    Refused,
)
from edgewise.generation.request import PrivateRequest
from edgewise.policy.types import VetoCode
from edgewise.testing import Script, ends_after, fails_after, hands_off_after
from edgewise_edge import FinishReason, RequestError
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    HANDOFF,
    PROMPT,
    FakeAdvisor,
    names_of,
    new_cloud,
    new_device,
    new_stream,
    new_stream_with_events,
    tokens_of,
)

TEXT = "an answer in several attempts"
IDS = tokens_of(TEXT)


def test_events_of_two_handoffs() -> None:
    """In order and once each; together the attempts account for every token."""
    stream, events = new_stream_with_events(
        {DEVICE: new_device(TEXT, hands_off_after(4)), CLOUD: new_cloud(TEXT, fails_after(3))},
        FakeAdvisor(CLOUD, DEVICE),
        max_tokens=len(IDS),
    )
    list(stream)
    stream.close()
    handoff = ["AttemptEnded", "HandedOver", "Decided"]
    assert names_of(events) == ["Decided", *handoff, *handoff, "AttemptEnded", "Completed"]
    attempts = [event for event in events if isinstance(event, AttemptEnded)]
    assert [event.outcome for event in attempts] == [
        Outcome.HANDED_OVER,
        Outcome.FAILED,
        Outcome.FINISHED,
    ]
    assert [event.error for event in attempts] == [None, "CloudUnavailableError", None]
    assert [event.tokens for event in attempts] == [4, 3, len(IDS) - 7]
    assert [event.position for event in attempts] == [len(PROMPT) + n for n in (0, 4, 7)]
    handed_over = [event for event in events if isinstance(event, HandedOver)]
    assert [(event.source, event.tokens, event.why) for event in handed_over] == [
        (CLOUD, 4, HANDOFF.code),
        (DEVICE, 7, VetoCode.FAILED),
    ]
    decided = [event for event in events if isinstance(event, Decided)]
    assert [event.max_tokens for event in decided] == [len(IDS) - n for n in (0, 4, 7)]
    assert isinstance(events[-1], Completed)
    assert events[-1].segments == stream.generation.segments
    assert len({event.generation for event in events}) == 1


@pytest.mark.parametrize(
    "script",
    [fails_after(3), ends_after(3), hands_off_after(3)],
    ids=["fails", "ends", "hands_off"],
)
@pytest.mark.parametrize("chunks", [1, len(IDS)], ids=["closed", "read"])
def test_source_is_closed_before_its_attempt_is_reported_as_ended(
    script: Script, chunks: int
) -> None:
    """Whether the stream is closed early or read to the end."""
    device, running = new_device(TEXT, script), []

    def observe(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.source is DEVICE:
            running.append(list(device.running))

    sources = {DEVICE: device, CLOUD: new_cloud(TEXT)}
    stream = new_stream(sources, FakeAdvisor(CLOUD), observers=[observe])
    list(islice(stream, chunks))
    stream.close()
    assert running == [[]]


def test_events_of_a_generation_without_a_source_to_continue() -> None:
    """The refusal holds the number of tokens so far; Completed follows once."""
    stream, events = new_stream_with_events(
        {DEVICE: new_device(TEXT, fails_after(2)), CLOUD: new_cloud(TEXT)}, FakeAdvisor()
    )
    with pytest.raises(NoSourceError):
        list(stream)
    stream.close()
    assert names_of(events) == ["Decided", "AttemptEnded", "Refused", "Completed"]
    assert isinstance(events[2], Refused)
    assert events[2].tokens == 2
    assert isinstance(events[3], Completed)
    assert events[3].finish_reason is FinishReason.ERROR


def test_events_of_an_error_that_is_raised() -> None:
    """The attempt failed, and the generation ended with an error."""
    stream, events = new_stream_with_events(
        {DEVICE: new_device(TEXT, fails_after(1, RequestError("no")))}, FakeAdvisor()
    )
    with pytest.raises(RequestError):
        list(stream)
    assert names_of(events) == ["Decided", "AttemptEnded", "Completed"]
    assert isinstance(events[1], AttemptEnded)
    assert (events[1].outcome, events[1].error) == (Outcome.FAILED, "RequestError")
    assert isinstance(events[2], Completed)
    assert events[2].finish_reason is FinishReason.ERROR


@pytest.mark.parametrize("kind", [None, PrivateRequest])
def test_events_hold_the_privacy_of_the_request(kind: type | None) -> None:
    """Observers need it: traces leave private generations out."""
    options = {"kind": kind} if kind else {}
    stream, events = new_stream_with_events({DEVICE: new_device(TEXT)}, FakeAdvisor(), **options)
    list(stream)
    privacy = {event.privacy for event in events}
    assert privacy == {"private" if kind else "allow_cloud"}
