"""The generation loop: what it does when a source fails, hands off or cuts the answer short."""

from collections.abc import Iterator

import pytest

from edgewise.errors import NoSourceError, SourceFailedError
from edgewise.generation.attempt import Attempt
from edgewise.generation.events import AttemptEnded, Outcome
from edgewise.generation.request import PrivateRequest
from edgewise.policy.types import VetoCode
from edgewise.testing import fails_after, hands_off_after
from edgewise_edge import FinishReason, ModelError, RequestError, RuntimeFailedError
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    HANDOFF,
    PROMPT,
    FakeAdvisor,
    new_cloud,
    new_device,
    new_stream,
    new_stream_with_events,
    read,
    tokens_of,
)

TEXT = "whichever source answers"
IDS = tokens_of(TEXT)


@pytest.mark.parametrize(
    "error", [SourceFailedError("no"), ModelError("no"), RuntimeFailedError("no")]
)
def test_failure_of_a_source_is_a_hard_veto_and_the_other_continues(error: Exception) -> None:
    """The policy gets the veto and the tokens so far."""
    sources = {DEVICE: new_device(TEXT, fails_after(3, error)), CLOUD: new_cloud(TEXT)}
    advisor = FakeAdvisor(CLOUD)
    assert read(new_stream(sources, advisor)) == TEXT
    (request,) = advisor.requests
    assert advisor.generated == [IDS[:3]]
    veto = request.abandoned[DEVICE]
    assert (veto.code, veto.soft) == (VetoCode.FAILED, False)


def test_error_that_is_no_failure_of_the_source_is_raised() -> None:
    """An invalid request is invalid for the other source too."""
    sources = {DEVICE: new_device(TEXT, fails_after(1, RequestError("no"))), CLOUD: new_cloud(TEXT)}
    stream = new_stream(sources, FakeAdvisor(CLOUD))
    with pytest.raises(RequestError):
        list(stream)
    assert not sources[CLOUD].requests
    assert not sources[DEVICE].running
    assert stream.generation.finish_reason is FinishReason.ERROR


def test_policy_gets_the_veto_of_a_handoff_unchanged() -> None:
    """A soft one stays soft; vetoes add up over several handoffs."""
    advisor = FakeAdvisor(CLOUD, DEVICE)
    sources = {DEVICE: new_device(TEXT, hands_off_after(2)), CLOUD: new_cloud(TEXT, fails_after(2))}
    list(new_stream(sources, advisor))
    assert advisor.requests[0].abandoned == {DEVICE: HANDOFF}
    assert {source: veto.code for source, veto in advisor.requests[1].abandoned.items()} == {
        DEVICE: HANDOFF.code,
        CLOUD: VetoCode.FAILED,
    }
    assert [len(generated) for generated in advisor.generated] == [2, 4]


def test_failure_caused_by_the_handoff_is_no_failure() -> None:
    """A source that raises when it is stopped keeps the soft veto of the handoff."""

    def fails_when_stopped(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from hands_off_after(2)(tokens, attempt)
        raise SourceFailedError("stopped")

    advisor = FakeAdvisor(CLOUD)
    sources = {DEVICE: new_device(TEXT, fails_when_stopped), CLOUD: new_cloud(TEXT)}
    stream, events = new_stream_with_events(sources, advisor)
    assert read(stream) == TEXT
    assert advisor.requests[0].abandoned == {DEVICE: HANDOFF}
    assert isinstance(events[1], AttemptEnded)
    assert (events[1].outcome, events[1].error) == (Outcome.HANDED_OVER, None)


def test_without_another_source_the_generation_ends_with_an_error() -> None:
    """The answer so far is kept, and the failure is the error's cause."""
    sources = {DEVICE: new_device(TEXT, fails_after(3)), CLOUD: new_cloud(TEXT)}
    stream = new_stream(sources, FakeAdvisor())
    with pytest.raises(NoSourceError) as error:
        list(stream)
    assert isinstance(error.value.__cause__, RuntimeFailedError)
    assert stream.generation.finish_reason is FinishReason.ERROR
    assert stream.generation.token_ids == IDS[:3]
    assert list(stream) == []


def test_private_request_never_opens_the_cloud() -> None:
    """Even if the policy were wrong: the loop has no such source."""
    sources = {DEVICE: new_device(TEXT, fails_after(2))}
    stream = new_stream(sources, FakeAdvisor(CLOUD), kind=PrivateRequest)
    with pytest.raises(KeyError):
        list(stream)


@pytest.mark.parametrize(("sliding_window", "tokens"), [(False, 5), (True, 9)])
def test_answer_ends_at_the_context_window_unless_it_slides(
    sliding_window: bool, tokens: int
) -> None:
    """Where the source allows fewer tokens than the request, the finish reason is `length`."""
    source = new_device(TEXT, context_window=len(PROMPT) + 5)
    stream = new_stream(
        {DEVICE: source}, FakeAdvisor(), max_tokens=9, sliding_window=sliding_window
    )
    list(stream)
    assert source.requests[0].max_tokens == tokens
    assert len(stream.generation.token_ids) == tokens
    assert stream.generation.finish_reason is FinishReason.LENGTH
