"""What looks after a side that writes: it moves the text, and ends with the run."""

import threading
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from edgewise.generation.attempt import Attempt
from edgewise.generation.monitor import HandoffMonitor
from edgewise.generation.stream import TextStream
from edgewise.policy.decide import decide, reconsider
from edgewise.policy.types import (
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Limits,
    NoSource,
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from edgewise_edge import FinishReason
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    MOVE,
    FakeAdvisor,
    FakeSource,
    continues,
    fails,
    hangs,
    loop_of,
    tokens_of,
)
from tests.router.policy.situations import CLOUD as FINE_CLOUD
from tests.router.policy.situations import EDGE as FINE_EDGE

TEXT = "someone keeps an eye on it"
IDS = tokens_of(TEXT)
BUDGET = 3600.0  # seconds; with one, looks are frequent
HOT = DeviceState(temperature=120.0)
DRAINED = DeviceState(battery=0.01, charging=False)


class Policy:
    """An Advisor that asks the policy itself about states that a test may change."""

    def __init__(self, device: DeviceState | None = None) -> None:
        self.device = device or DeviceState()
        self.edge: EdgeState = FINE_EDGE
        self.cloud: CloudState = FINE_CLOUD
        self.looks = 0
        self.looked = threading.Condition()

    def decide(self, request: RoutingRequest, _token_ids: Sequence[int]) -> Decision | NoSource:
        """See Advisor."""
        return decide(request, self.device, self.edge, self.cloud, Limits())

    def reconsider(
        self,
        decision: Decision,
        progress: Progress,
        request: RoutingRequest,
        _token_ids: Sequence[int],
    ) -> Veto | None:
        """See Advisor."""
        found = reconsider(
            decision, progress, request, self.device, self.edge, self.cloud, Limits()
        )
        with self.looked:
            self.looks += 1
            self.looked.notify_all()
        return found

    def wait_for_looks(self, count: int) -> None:
        """Until it was asked so often more."""
        with self.looked:
            wanted = self.looks + count
            self.looked.wait_for(lambda: self.looks >= wanted)


def begun(
    advisor: FakeAdvisor | Policy, sources: dict[Source, FakeSource], **options
) -> TextStream:
    return TextStream(loop_of(sources, advisor, latency_budget=BUDGET, **options))


def read(text: TextStream) -> str:
    return "".join(chunk.text for chunk in text)


@pytest.mark.parametrize("first", Source)
@pytest.mark.parametrize("after", [0, 1, 9])
def test_a_reason_in_the_middle_moves_the_text(first: Source, after: int) -> None:
    """A side that hangs there is woken, and the other goes on at the next token."""
    sources = {first: FakeSource(IDS, hangs(after)), first.other: FakeSource(IDS)}

    def look(_progress: Progress, generated: Sequence[int]) -> Veto | None:
        there = sources[first].asked and not sources[first.other].asked
        return MOVE if there and len(generated) == after else None

    advisor = FakeAdvisor(first.other, check=look)
    text = begun(advisor, sources, decision=first)
    assert read(text) == TEXT
    assert [(part.source, part.tokens) for part in text.generation.segments] == [
        part for part in ((first, after), (first.other, len(IDS) - after)) if part[1]
    ]
    assert advisor.requests[0].abandoned == {first: MOVE}


def test_a_text_that_left_a_hot_device_stays_away() -> None:
    """The cloud writes to the end, though it is looked after too."""
    advisor = Policy()

    def cools_late(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield next(tokens)
        advisor.wait_for_looks(2)
        yield from continues(tokens, attempt)

    def heats(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        advisor.device = HOT
        yield from hangs(4)(tokens, attempt)

    sources = {DEVICE: FakeSource(IDS, heats), CLOUD: FakeSource(IDS, cools_late)}
    text = begun(advisor, sources)
    assert read(text) == TEXT
    assert [part.source for part in text.generation.segments] == [DEVICE, CLOUD]
    assert text.decision.vetoes[DEVICE].code is VetoCode.TEMPERATURE


def test_it_returns_to_a_side_that_it_left_as_a_last_resort_only_and_stays() -> None:
    """The battery is no reason any more when the cloud has failed."""
    advisor = Policy()

    def drains(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        advisor.device = DRAINED
        yield from hangs(4)(tokens, attempt)

    def stays(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield next(tokens)
        advisor.wait_for_looks(2)
        yield from continues(tokens, attempt)

    sources = {DEVICE: FakeSource(IDS, drains, stays), CLOUD: FakeSource(IDS, fails(5))}
    text = begun(advisor, sources)
    assert read(text) == TEXT
    assert [(part.source, part.tokens) for part in text.generation.segments] == [
        (DEVICE, 4),
        (CLOUD, 5),
        (DEVICE, len(IDS) - 9),
    ]
    assert text.decision.reason is Reason.LAST_RESORT


def test_where_there_is_one_side_nobody_looks() -> None:
    """It would have nowhere to go."""
    before = overseers()
    text = begun(FakeAdvisor(), {DEVICE: FakeSource(IDS)})
    next(text)
    assert overseers() == before


def no_tokens(_attempt: Attempt) -> Iterator[int]:
    yield from ()


def overseers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "edgewise-monitor"}


@pytest.mark.parametrize("ending", ["read", "closed", "dropped", "failed"])
def test_it_ends_with_the_run(ending: str) -> None:
    """However that ends: no thread is left."""
    script = fails(3) if ending == "failed" else continues
    others = overseers()
    text = begun(FakeAdvisor(), {DEVICE: FakeSource(IDS, script), CLOUD: FakeSource(IDS)})
    next(text)
    (overseer,) = overseers() - others
    if ending == "closed":
        text.close()
    elif ending == "read":
        read(text)
    elif ending == "failed":
        with pytest.raises(Exception, match="no source"):
            read(text)
    del text
    overseer.join()


def test_a_reason_that_comes_too_late_changes_nothing() -> None:
    """The text is finished; who looks then speaks of a run that is over."""
    looking, finished = threading.Event(), threading.Event()

    def look(_progress: Progress, _generated: Sequence[int]) -> Veto | None:
        looking.set()
        finished.wait()
        return MOVE

    def waits(tokens: Iterator[int], _attempt: Attempt) -> Iterator[int]:
        looking.wait()
        yield from tokens

    others = overseers()
    text = begun(FakeAdvisor(check=look), {DEVICE: FakeSource(IDS, waits), CLOUD: FakeSource(IDS)})
    assert read(text) == TEXT
    finished.set()
    for overseer in overseers() - others:
        overseer.join()
    assert text.generation.finish_reason is FinishReason.STOP
    assert [part.source for part in text.generation.segments] == [DEVICE]


def test_who_cancels_is_not_handed_over() -> None:
    """A text that nobody wants any more goes nowhere, whatever else is found."""
    text: list[TextStream] = []

    def closed_and_moved(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from islice(tokens, 2)
        text[0].close()
        attempt.hand_off(MOVE)

    advisor = FakeAdvisor(CLOUD)
    sources = {DEVICE: FakeSource(IDS, closed_and_moved), CLOUD: FakeSource(IDS)}
    text.append(begun(advisor, sources))
    assert read(text[0]) == TEXT[:2]
    assert text[0].generation.finish_reason is FinishReason.CANCELLED
    assert not advisor.requests


def test_it_asks_until_there_is_a_reason_and_then_no_more() -> None:
    """One reason is enough."""
    attempt, answers = Attempt(DEVICE, 1, 1, no_tokens), iter([None, None, MOVE])
    with HandoffMonitor(attempt, lambda: next(answers), 0.001):
        attempt.stop.wait()
    assert attempt.handoff is MOVE
    assert next(answers, "none left") == "none left"


def test_a_look_that_fails_is_not_the_last() -> None:
    """A probe that cannot read now may do so later: the text is moved all the same."""
    attempt, answers = Attempt(DEVICE, 1, 1, no_tokens), iter([OSError("no such file"), MOVE])

    def look() -> Veto:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with HandoffMonitor(attempt, look, 0.001):
        attempt.stop.wait()
    assert attempt.handoff is MOVE
