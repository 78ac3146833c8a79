"""Hedging: when the other source is started too, which one wins, and what becomes of the other."""

import threading
from collections.abc import Iterator

import pytest

from edgewise.errors import NoSourceError
from edgewise.generation.attempt import Attempt
from edgewise.generation.events import AttemptEnded, Decided, Event, Hedged, Outcome
from edgewise.generation.hedge import HedgedAttempt
from edgewise.generation.request import PrivateRequest
from edgewise.policy.types import Decision, NoSource, Reason, Source, VetoCode
from edgewise.testing import (
    Script,
    ScriptedCloud,
    ScriptedDevice,
    completes,
    ends_after,
    fails_after,
    hangs_after,
    waits_for,
)
from edgewise_edge import FinishReason
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    HANDOFF,
    PROMPT,
    FakeAdvisor,
    decision_for,
    new_cloud,
    new_device,
    new_request,
    new_stream,
    read,
    tokens_of,
)

TEXT = "first come, first served"
IDS = tokens_of(TEXT)
SOON, NEVER = 0.01, 600.0  # seconds until the hedge starts


class HedgedGeneration:
    """A generation that starts on the device and may be hedged in the cloud."""

    def __init__(
        self,
        device: ScriptedDevice,
        cloud: ScriptedCloud,
        advisor: FakeAdvisor,
        after: float = SOON,
    ) -> None:
        self.device, self.cloud, self.advisor = device, cloud, advisor
        self.events: list[Event] = []
        self.stream = new_stream(
            {DEVICE: device, CLOUD: cloud},
            advisor,
            observers=[self.events.append],
            hedge_after=after,
            max_tokens=len(IDS),
        )

    @property
    def outcomes(self) -> list[tuple[Source, Outcome]]:
        """How the attempts ended, in the order of the events."""
        ended = [event for event in self.events if isinstance(event, AttemptEnded)]
        return [(event.source, event.outcome) for event in ended]

    @property
    def hedges(self) -> list[Source]:
        """The sources that were started too."""
        return [event.source for event in self.events if isinstance(event, Hedged)]

    @property
    def reasons(self) -> list[Reason]:
        """Of the decisions."""
        return [event.decision.reason for event in self.events if isinstance(event, Decided)]


class AttemptThread:
    """The thread that runs an attempt, so that the other attempt can wait for its start or end."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self._thread: threading.Thread | None = None

    def running(self, then: Script) -> Script:
        """Note the thread, then run another script."""

        def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
            self._thread = threading.current_thread()
            self.started.set()
            yield from then(tokens, attempt)

        return script

    def ended(self, then: Script) -> Script:
        """Wait until the attempt has its first token or has failed, then run another script."""

        def script(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
            self.started.wait()
            self._thread.join()
            yield from then(tokens, attempt)

        return script


class SignallingAdvisor(FakeAdvisor):
    """Sets an event when it is asked for the decision on the hedge."""

    def __init__(self, *decisions: Source | Decision) -> None:
        super().__init__(*decisions)
        self.asked = threading.Event()

    def decide(self, *arguments: object) -> Decision | NoSource:
        """See Advisor."""
        self.asked.set()
        return super().decide(*arguments)


def test_first_token_in_time_starts_no_hedge() -> None:
    """The other source gets no request."""
    hedged = HedgedGeneration(new_device(TEXT), new_cloud(TEXT), FakeAdvisor(CLOUD), after=NEVER)
    assert read(hedged.stream) == TEXT
    assert not hedged.cloud.requests
    assert not hedged.hedges
    assert hedged.outcomes == [(DEVICE, Outcome.FINISHED)]
    assert hedged.stream.decision.reason is Reason.PREFERRED


def test_hedge_that_has_the_first_token_wins() -> None:
    """It generates the whole answer; the first attempt is stopped and closed."""
    hedged = HedgedGeneration(new_device(TEXT, hangs_after(0)), new_cloud(TEXT), FakeAdvisor(CLOUD))
    assert read(hedged.stream) == TEXT
    generation = hedged.stream.generation
    assert [(part.source, part.tokens) for part in generation.segments] == [(CLOUD, len(IDS))]
    assert (generation.decision.source, generation.decision.reason) == (CLOUD, Reason.HEDGED)
    assert hedged.cloud.requests[0].tokens.token_ids == PROMPT
    hedged.device.wait_until_idle()
    assert hedged.hedges == [CLOUD]
    assert hedged.outcomes == [(DEVICE, Outcome.LOST), (CLOUD, Outcome.FINISHED)]
    assert hedged.reasons == [Reason.PREFERRED, Reason.HEDGED]
    assert hedged.advisor.requests[0].abandoned[DEVICE].code is VetoCode.STALLED


def test_first_attempt_may_still_win_after_the_hedge_has_started() -> None:
    """The hedge is stopped and closed, and the decision stays."""
    hedge = AttemptThread()
    hedged = HedgedGeneration(
        new_device(TEXT, waits_for(hedge.started)),
        new_cloud(TEXT, hedge.running(hangs_after(0))),
        FakeAdvisor(CLOUD),
    )
    assert read(hedged.stream) == TEXT
    assert [part.source for part in hedged.stream.generation.segments] == [DEVICE]
    hedged.cloud.wait_until_idle()
    assert hedged.outcomes == [(CLOUD, Outcome.LOST), (DEVICE, Outcome.FINISHED)]
    assert hedged.stream.decision.reason is Reason.PREFERRED


def test_failure_before_the_hedge_starts_is_a_fallback() -> None:
    """The policy decides, as without hedging."""
    hedged = HedgedGeneration(
        new_device(TEXT, fails_after(0)), new_cloud(TEXT), FakeAdvisor(CLOUD), after=NEVER
    )
    assert read(hedged.stream) == TEXT
    assert not hedged.hedges
    assert hedged.outcomes == [(DEVICE, Outcome.FAILED), (CLOUD, Outcome.FINISHED)]
    assert hedged.stream.decision.reason is Reason.OTHER_VETOED


def test_failure_of_the_first_attempt_leaves_the_hedge_running() -> None:
    """The hedge wins as soon as it has a token."""
    first, hedge = AttemptThread(), AttemptThread()
    hedged = HedgedGeneration(
        new_device(TEXT, first.running(waits_for(hedge.started, fails_after(0)))),
        new_cloud(TEXT, hedge.running(first.ended(completes))),
        FakeAdvisor(CLOUD),
    )
    assert read(hedged.stream) == TEXT
    assert hedged.outcomes == [(DEVICE, Outcome.FAILED), (CLOUD, Outcome.FINISHED)]
    assert hedged.stream.decision.source is CLOUD


def test_source_whose_hedge_failed_is_not_tried_again() -> None:
    """If the first attempt fails later, no source is left."""
    hedge = AttemptThread()
    hedged = HedgedGeneration(
        new_device(TEXT, hedge.ended(fails_after(3))),
        new_cloud(TEXT, hedge.running(fails_after(0))),
        FakeAdvisor(CLOUD),
    )
    with pytest.raises(NoSourceError):
        read(hedged.stream)
    assert hedged.outcomes == [(CLOUD, Outcome.FAILED), (DEVICE, Outcome.FAILED)]
    assert hedged.advisor.requests[-1].abandoned.keys() == {DEVICE, CLOUD}
    assert hedged.stream.generation.token_ids == IDS[:3]


@pytest.mark.parametrize("last", Source)
def test_generation_fails_if_both_attempts_fail(last: Source) -> None:
    """In either order: both sources are abandoned, and no hedge has won."""
    threads = {source: AttemptThread() for source in Source}

    def script(source: Source) -> Script:
        other, fails = threads[source.other], fails_after(0)
        fails_in_order = other.ended(fails) if source is last else waits_for(other.started, fails)
        return threads[source].running(fails_in_order)

    hedged = HedgedGeneration(
        new_device(TEXT, script(DEVICE)), new_cloud(TEXT, script(CLOUD)), FakeAdvisor(CLOUD)
    )
    with pytest.raises(NoSourceError):
        read(hedged.stream)
    assert hedged.outcomes == [(last.other, Outcome.FAILED), (last, Outcome.FAILED)]
    assert hedged.advisor.requests[-1].abandoned.keys() == {DEVICE, CLOUD}
    assert hedged.reasons == [Reason.PREFERRED]
    assert hedged.stream.generation.finish_reason is FinishReason.ERROR


@pytest.mark.parametrize(
    "decisions",
    [(), (DEVICE,), (decision_for(CLOUD, Reason.LAST_RESORT, vetoes={CLOUD: HANDOFF}),)],
    ids=["refused", "same source", "last resort"],
)
def test_no_hedge_where_the_policy_does_not_choose_the_other_source(
    decisions: tuple[Source | Decision, ...],
) -> None:
    """A last resort is for failures, not for speed. The first attempt is awaited."""
    advisor = SignallingAdvisor(*decisions)
    hedged = HedgedGeneration(new_device(TEXT, waits_for(advisor.asked)), new_cloud(TEXT), advisor)
    assert read(hedged.stream) == TEXT
    assert not hedged.cloud.requests
    assert not hedged.hedges


def test_source_that_lost_may_continue_when_the_winner_fails() -> None:
    """Losing is no failure: only the winner is abandoned."""
    hedged = HedgedGeneration(
        new_device(TEXT, hangs_after(0)),
        new_cloud(TEXT, fails_after(5)),
        FakeAdvisor(CLOUD, DEVICE),
    )
    assert read(hedged.stream) == TEXT
    assert [(part.source, part.tokens) for part in hedged.stream.generation.segments] == [
        (CLOUD, 5),
        (DEVICE, len(IDS) - 5),
    ]
    assert hedged.advisor.requests[-1].abandoned.keys() == {CLOUD}


@pytest.mark.parametrize("after", [SOON, NEVER], ids=["both", "first"])
def test_closing_from_another_thread_stops_all_attempts(after: float) -> None:
    """Whether one runs or both, the reader gets the end without an error."""
    device_runs, cloud_runs = threading.Event(), threading.Event()
    hedged = HedgedGeneration(
        new_device(TEXT, hangs_after(0, device_runs)),
        new_cloud(TEXT, hangs_after(0, cloud_runs)),
        FakeAdvisor(CLOUD),
        after=after,
    )
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(read(hedged.stream)))
    reader.start()
    (cloud_runs if after is SOON else device_runs).wait()
    hedged.stream.close()
    reader.join()
    assert texts == [""]
    assert hedged.stream.generation.finish_reason is FinishReason.CANCELLED
    for source in (hedged.device, hedged.cloud):
        source.wait_until_idle()


@pytest.mark.parametrize("has_token", [True, False])
def test_stopped_attempt_is_closed_without_waiting_for_garbage_collection(has_token: bool) -> None:
    """Immediately if it has its token, else in its own thread when it has it."""
    source = new_device(TEXT, ends_after(5))
    attempt = source.open(new_request().after(()))
    hedged = HedgedAttempt(attempt)
    steps = [hedged.run, hedged.stop] if has_token else [hedged.stop, hedged.run]
    steps[0]()
    assert source.running == ([attempt] if has_token else [])
    steps[1]()
    assert len(source.requests) == 1
    assert not source.running
    assert attempt.stop.is_set()


def test_private_request_is_never_hedged() -> None:
    """It has one source, which generates in the reader's thread."""
    threads = []

    def records_thread(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        threads.append(threading.current_thread())
        yield from completes(tokens, attempt)

    advisor = FakeAdvisor(CLOUD)
    sources = {DEVICE: new_device(TEXT, records_thread)}
    stream = new_stream(sources, advisor, kind=PrivateRequest, hedge_after=SOON)
    assert read(stream) == TEXT
    assert threads == [threading.current_thread()]
    assert not advisor.requests


def test_attempt_that_is_not_yet_hedged_is_monitored() -> None:
    """If it stalls before its first token it hands off, long before the hedge would start."""
    device, cloud = new_device(TEXT, hangs_after(0)), new_cloud(TEXT)
    advisor = FakeAdvisor(
        CLOUD, check=lambda _progress, _generated: HANDOFF if device.requests else None
    )
    stream = new_stream({DEVICE: device, CLOUD: cloud}, advisor, hedge_after=NEVER)
    next(stream)
    assert stream.decision.source is CLOUD
    assert advisor.requests[0].abandoned == {DEVICE: HANDOFF}


def test_attempt_is_reported_once_if_the_decision_on_the_hedge_raises() -> None:
    """Only as failed; it is stopped."""

    class FailingAdvisor(FakeAdvisor):
        def decide(self, *_: object) -> Decision:
            raise OSError("a probe failed")

    hedged = HedgedGeneration(new_device(TEXT, hangs_after(0)), new_cloud(TEXT), FailingAdvisor())
    with pytest.raises(OSError, match="a probe failed"):
        read(hedged.stream)
    assert hedged.outcomes == [(DEVICE, Outcome.FAILED)]
    hedged.device.wait_until_idle()
