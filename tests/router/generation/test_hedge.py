"""Two sides asked for the first token: whoever has it writes on, and the other is stopped."""

import threading
import time

import pytest

from edgewise.errors import NoSourceError
from edgewise.generation.events import AttemptEnded, Decided, Event, Hedged, Outcome
from edgewise.generation.hedge import HedgedAttempt
from edgewise.generation.request import PrivateRequest
from edgewise.generation.stream import TextStream
from edgewise.policy.types import Reason, Source, VetoCode
from edgewise_edge import FinishReason
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    MOVE,
    PROMPT,
    FakeAdvisor,
    FakeSource,
    chose,
    ends,
    fails,
    hangs,
    loop_of,
    request_for,
    tokens_of,
    waits_for,
)

TEXT = "first come, first served"
IDS = tokens_of(TEXT)
SOON, NEVER = 0.01, 600.0  # seconds until the other side is asked


class Hedge:
    """A text whose device is asked first, and what becomes of it."""

    def __init__(
        self, device: FakeSource, cloud: FakeSource, *answers: Source, after: float = SOON
    ) -> None:
        self.device, self.cloud = device, cloud
        self.advisor = FakeAdvisor(*answers)
        self.events: list[Event] = []
        self.text = TextStream(
            loop_of(
                {DEVICE: device, CLOUD: cloud},
                self.advisor,
                observers=[self.events.append],
                hedge_after=after,
                max_tokens=len(IDS),
            )
        )

    def read(self) -> str:
        """The whole text."""
        return "".join(chunk.text for chunk in self.text)

    @property
    def outcomes(self) -> list[tuple[Source, Outcome]]:
        """How the attempts ended, in the order in which they were told."""
        ended = [event for event in self.events if isinstance(event, AttemptEnded)]
        return [(event.source, event.outcome) for event in ended]

    @property
    def hedges(self) -> list[Source]:
        """Who was asked too."""
        return [event.source for event in self.events if isinstance(event, Hedged)]


def test_whoever_is_first_in_time_is_not_hedged() -> None:
    """The other side is not asked at all."""
    hedge = Hedge(FakeSource(IDS), FakeSource(IDS), CLOUD, after=NEVER)
    assert hedge.read() == TEXT
    assert not hedge.cloud.attempts
    assert not hedge.hedges
    assert hedge.outcomes == [(DEVICE, Outcome.FINISHED)]
    assert hedge.text.decision.reason is Reason.PREFERRED


def test_the_other_side_wins() -> None:
    """It writes all of the text; the first is stopped, its work closed, and nothing learned of it."""
    hedge = Hedge(FakeSource(IDS, hangs()), FakeSource(IDS), CLOUD)
    assert hedge.read() == TEXT
    generation = hedge.text.generation
    assert [(part.source, part.tokens) for part in generation.segments] == [(CLOUD, len(IDS))]
    assert (generation.decision.source, generation.decision.reason) == (CLOUD, Reason.HEDGED)
    assert hedge.cloud.asked[0].token_ids == PROMPT
    assert hedge.device.attempts[0].stop.is_set()
    assert hedge.device.has_ended.wait(60)
    assert hedge.hedges == [CLOUD]
    assert hedge.outcomes == [(DEVICE, Outcome.LOST), (CLOUD, Outcome.FINISHED)]
    assert [e.decision.reason for e in hedge.events if isinstance(e, Decided)] == [
        Reason.PREFERRED,
        Reason.HEDGED,
    ]
    assert hedge.advisor.requests[0].abandoned[DEVICE].code is VetoCode.STALLED


def test_the_first_side_wins_after_all() -> None:
    """The other was asked, is stopped and closed, and the decision stays."""
    asked = threading.Event()

    def begins(tokens, attempt):
        asked.set()
        yield from hangs()(tokens, attempt)

    hedge = Hedge(FakeSource(IDS, waits_for(asked)), FakeSource(IDS, begins), CLOUD)
    assert hedge.read() == TEXT
    assert [part.source for part in hedge.text.generation.segments] == [DEVICE]
    assert hedge.cloud.attempts[0].stop.is_set()
    assert hedge.cloud.has_ended.wait(60)
    assert hedge.outcomes == [(CLOUD, Outcome.LOST), (DEVICE, Outcome.FINISHED)]
    assert hedge.text.decision.reason is Reason.PREFERRED


def test_a_side_that_fails_before_the_other_is_asked_is_a_fallback() -> None:
    """Decided anew, as without a hedge."""
    hedge = Hedge(FakeSource(IDS, fails()), FakeSource(IDS), CLOUD, after=NEVER)
    assert hedge.read() == TEXT
    assert not hedge.hedges
    assert hedge.outcomes == [(DEVICE, Outcome.FAILED), (CLOUD, Outcome.FINISHED)]
    assert hedge.text.decision.reason is Reason.OTHER_VETOED


def test_a_side_that_fails_while_the_other_runs_is_not_waited_for() -> None:
    """The other one wins, and the first is left for good."""
    asked = threading.Event()

    def begins(tokens, attempt):
        asked.set()
        assert hedge.device.has_ended.wait(60)
        yield from tokens

    hedge = Hedge(FakeSource(IDS, waits_for(asked, fails())), FakeSource(IDS, begins), CLOUD)
    assert hedge.read() == TEXT
    assert hedge.outcomes == [(DEVICE, Outcome.FAILED), (CLOUD, Outcome.FINISHED)]
    assert hedge.text.decision.source is CLOUD


def test_the_other_side_fails_while_the_first_runs() -> None:
    """The first goes on waiting, and when it fails too, the other is not tried again."""
    failed = threading.Event()
    cloud = FakeSource(IDS, fails())
    cloud.has_ended = failed
    hedge = Hedge(FakeSource(IDS, waits_for(failed, fails(3))), cloud, CLOUD)
    with pytest.raises(NoSourceError):
        hedge.read()
    assert hedge.outcomes == [(CLOUD, Outcome.FAILED), (DEVICE, Outcome.FAILED)]
    assert hedge.advisor.requests[-1].abandoned.keys() == {DEVICE, CLOUD}
    assert hedge.text.generation.token_ids == IDS[:3]


def test_both_fail() -> None:
    """Refused once, with both left."""
    asked = threading.Event()

    def begins(tokens, attempt):
        asked.set()
        yield from fails()(tokens, attempt)

    hedge = Hedge(FakeSource(IDS, waits_for(asked, fails())), FakeSource(IDS, begins), CLOUD)
    with pytest.raises(NoSourceError):
        hedge.read()
    assert sorted(hedge.outcomes) == [(CLOUD, Outcome.FAILED), (DEVICE, Outcome.FAILED)]
    assert hedge.advisor.requests[-1].abandoned.keys() == {DEVICE, CLOUD}
    assert hedge.text.generation.finish_reason is FinishReason.ERROR


@pytest.mark.parametrize("answers", [(), (DEVICE,)])
def test_a_side_that_may_not_be_asked_too_is_not(answers: tuple[Source, ...]) -> None:
    """The first is waited for."""
    looked = threading.Event()
    device = FakeSource(IDS, waits_for(looked))
    hedge = Hedge(device, FakeSource(IDS), *answers)
    decide = hedge.advisor.decide

    def decided(request, token_ids):
        looked.set()
        return decide(request, token_ids)

    hedge.advisor.decide = decided
    assert hedge.read() == TEXT
    assert not hedge.cloud.attempts
    assert not hedge.hedges


def test_the_winner_may_hand_over_and_the_loser_go_on() -> None:
    """Losing a race is no failure."""
    hedge = Hedge(FakeSource(IDS, hangs()), FakeSource(IDS, fails(5)), CLOUD, DEVICE)
    assert hedge.read() == TEXT
    assert [(part.source, part.tokens) for part in hedge.text.generation.segments] == [
        (CLOUD, 5),
        (DEVICE, len(IDS) - 5),
    ]
    assert hedge.advisor.requests[-1].abandoned.keys() == {CLOUD}


@pytest.mark.parametrize("after", [SOON, NEVER])
def test_closing_from_another_thread_ends_the_race(after: float) -> None:
    """Whether one runs or both: all are stopped, and the reader is told that it is over."""
    device_runs, cloud_runs = threading.Event(), threading.Event()
    hedge = Hedge(
        FakeSource(IDS, hangs(reached=device_runs)),
        FakeSource(IDS, hangs(reached=cloud_runs)),
        CLOUD,
        after=after,
    )
    chunks: list[str] = []
    reader = threading.Thread(target=lambda: chunks.append(hedge.read()))
    reader.start()
    (cloud_runs if after is SOON else device_runs).wait()
    hedge.text.close()
    reader.join()
    assert chunks == [""]
    assert hedge.text.generation.finish_reason is FinishReason.CANCELLED
    for source in (hedge.device, hedge.cloud):
        for attempt in source.attempts:
            assert attempt.stop.is_set()
        assert source.ended == source.attempts


@pytest.mark.parametrize("arrived", [True, False])
def test_a_hedged_attempt_that_is_stopped_is_closed(arrived: bool) -> None:
    """At once when it has its token, else when it comes to it, and not when it is forgotten."""
    source = FakeSource(IDS, ends(5))
    attempt = source.open(request_for().after(()))
    hedged = HedgedAttempt(attempt)
    steps = [hedged.run, hedged.stop] if arrived else [hedged.stop, hedged.run]
    for step in steps:
        assert not source.ended
        step()
    assert source.ended == [attempt]
    assert attempt.stop.is_set()


def test_a_private_text_is_never_hedged() -> None:
    """It has one side, and so the advisor is not even asked."""
    later = threading.Event()
    threading.Timer(10 * SOON, later.set).start()
    advisor, device = FakeAdvisor(CLOUD), FakeSource(IDS, waits_for(later))
    request = request_for(PrivateRequest, hedge_after=SOON)
    text = TextStream(loop_of({DEVICE: device}, advisor, request=request))
    assert "".join(chunk.text for chunk in text) == TEXT
    assert not advisor.requests


def test_a_side_that_both_failed_at_has_not_won() -> None:
    """No decision speaks of a race that nobody won."""
    asked = threading.Event()

    def begins(tokens, attempt):
        asked.set()
        assert hedge.device.has_ended.wait(60)
        time.sleep(0.1)  # the device has arrived
        yield from fails()(tokens, attempt)

    hedge = Hedge(FakeSource(IDS, waits_for(asked, fails())), FakeSource(IDS, begins), CLOUD)
    with pytest.raises(NoSourceError):
        hedge.read()
    assert [e.decision.reason for e in hedge.events if isinstance(e, Decided)] == [Reason.PREFERRED]


def test_a_last_resort_is_not_woken_for_speed() -> None:
    """A side that has a veto is asked where the first fails, not where it is slow."""
    looked = threading.Event()

    class Reluctant(FakeAdvisor):
        def decide(self, request, token_ids):
            looked.set()
            return chose(CLOUD, Reason.LAST_RESORT, vetoes={CLOUD: MOVE})

    device, cloud = FakeSource(IDS, waits_for(looked)), FakeSource(IDS)
    text = TextStream(loop_of({DEVICE: device, CLOUD: cloud}, Reluctant(), hedge_after=SOON))
    assert "".join(chunk.text for chunk in text) == TEXT
    assert not cloud.attempts


def test_who_is_alone_in_a_race_is_looked_after() -> None:
    """A side that hangs before its first token hands over, long before the other is asked too."""
    device, cloud = FakeSource(IDS, hangs()), FakeSource(IDS)
    advisor = FakeAdvisor(CLOUD, check=lambda _progress, _generated: MOVE if device.asked else None)
    text = TextStream(loop_of({DEVICE: device, CLOUD: cloud}, advisor, hedge_after=NEVER))
    next(text)
    assert text.decision.source is CLOUD
    assert advisor.requests[0].abandoned == {DEVICE: MOVE}
