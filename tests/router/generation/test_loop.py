"""The loop by itself: whoever fails or hands over, and where, the text is the unbroken one."""

import threading
from collections.abc import Iterator
from itertools import islice, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgewise.errors import NoSourceError, SourceFailedError
from edgewise.generation.attempt import Attempt
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
from edgewise.generation.result import Chunk, Generation
from edgewise.generation.stream import TextStream
from edgewise.policy.types import Source, VetoCode
from edgewise_edge import (
    FinishReason,
    ModelError,
    RequestError,
    RuntimeFailedError,
    TokenRequest,
)
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    END_ID,
    MOVE,
    PROMPT,
    TOKENIZER,
    FakeAdvisor,
    FakeSource,
    Script,
    ends,
    fails,
    hands_off,
    hangs,
    loop_of,
    tokens_of,
)

TEXT = "the sea 🌊 the café, naïve — said the 日本 the"
IDS = tokens_of(TEXT)
LEAVING = {
    "fails": fails,
    "ends": ends,
    "hands_off": hands_off,
    "hands_off_in_a_step": lambda after: hands_off(after, in_a_step=True),
}


def written(
    ids: tuple[int, ...], *scripts: Script, first: Source = DEVICE, **options: object
) -> tuple[Generation, list[Chunk], dict[Source, FakeSource]]:
    """What the sides write in turns, one script each; then the next one writes to the end."""
    order = [first if turn % 2 == 0 else first.other for turn in range(len(scripts) + 1)]
    turns = {side: scripts[order.index(side) :: 2] if side in order else () for side in Source}
    sources = {side: FakeSource(ids, *turns[side]) for side in Source}
    text = TextStream(loop_of(sources, FakeAdvisor(*order[1:]), first, **options))
    chunks = list(text)
    return text.generation, chunks, sources


@pytest.mark.parametrize("first", Source)
@pytest.mark.parametrize("leaving", LEAVING)
def test_a_handoff_at_any_position_loses_and_repeats_nothing(leaving: str, first: Source) -> None:
    """Both ways: characters of several tokens are whole, and the second side knows all before."""
    for after in range(len(IDS)):
        generation, chunks, sources = written(
            IDS, LEAVING[leaving](after), first=first, max_tokens=len(IDS)
        )
        made = after + (leaving == "hands_off_in_a_step")
        assert generation.token_ids == IDS
        assert generation.text == TEXT == "".join(chunk.text for chunk in chunks)
        assert generation.finish_reason is FinishReason.LENGTH
        if made == len(IDS):  # it had finished when it was to leave
            assert not sources[first.other].asked
            continue
        (second,) = sources[first.other].asked
        assert (second.token_ids, second.prompt_tokens) == (PROMPT + IDS[:made], len(PROMPT))
        assert second.max_tokens == len(IDS) - made
        assert second.sampling == sources[first].asked[0].sampling


@given(
    text=st.text(max_size=30),
    legs=st.lists(st.tuples(st.sampled_from(sorted(LEAVING)), st.integers(0, 12)), max_size=8),
    first=st.sampled_from(Source),
    max_tokens=st.integers(1, 60),
    ending=st.booleans(),
    stop=st.lists(st.text(min_size=1, max_size=3), max_size=2),
)
def test_however_often_it_moves_it_is_the_unbroken_text(
    text: str,
    legs: list[tuple[str, int]],
    first: Source,
    max_tokens: int,
    ending: bool,
    stop: list[str],
) -> None:
    """Tokens, text, chunks, the reason for its end and usage; segments account for every token."""
    filler = tokens_of(" and so on" * 8)
    ids = tokens_of(text) + ((END_ID,) if ending else filler)
    options = {"max_tokens": max_tokens, "stop": tuple(stop)}
    unbroken, _, _ = written(ids, **options)
    scripts = [LEAVING[kind](after) for kind, after in legs]
    generation, chunks, sources = written(ids, *scripts, first=first, **options)
    for part in ("token_ids", "text", "finish_reason", "usage"):
        assert getattr(generation, part) == getattr(unbroken, part)
    assert generation.token_ids == ids[: len(generation.token_ids)]
    assert "".join(chunk.text for chunk in chunks) == generation.text
    assert generation.usage.completion_tokens == len(generation.token_ids)
    assert generation.usage.prompt_tokens == len(PROMPT)
    assert sum(part.tokens for part in generation.segments) == len(generation.token_ids)
    for one, other in pairwise(generation.segments):
        assert (other.source, other.start) == (one.source.other, one.start + one.tokens)
    for source in sources.values():
        for request in source.asked:
            assert request.token_ids == PROMPT + ids[: request.position - len(PROMPT)]
            assert request.position + request.max_tokens == len(PROMPT) + max_tokens
        assert source.ended == source.attempts


def test_a_stop_string_may_lie_across_a_handoff() -> None:
    """Neither side alone wrote it; it and all after it are in no text, but its tokens count."""
    ids = tokens_of("a long way")
    generation, chunks, _ = written(ids, fails(4), stop=("ng w",))
    assert generation.text == "a lo" == "".join(chunk.text for chunk in chunks)
    assert generation.finish_reason is FinishReason.STOP
    assert generation.token_ids == ids[:8]
    assert [part.tokens for part in generation.segments] == [4, 4]


def test_what_was_held_back_for_a_stop_string_comes_after_all() -> None:
    """When the other side writes something else."""
    generation, chunks, _ = written(tokens_of("ping pong"), fails(4), stop=("ing!",), max_tokens=9)
    assert generation.text == "ping pong" == "".join(chunk.text for chunk in chunks)


def test_a_chunk_is_of_the_side_that_completed_its_text() -> None:
    """With the tokens of both, where a character was cut in two."""
    ids = tokens_of("é")
    _, chunks, _ = written(ids, fails(1), max_tokens=2)
    assert [(chunk.text, chunk.token_ids, chunk.source) for chunk in chunks] == [("é", ids, CLOUD)]


@pytest.mark.parametrize(
    "error", [SourceFailedError("no"), ModelError("no"), RuntimeFailedError("no")]
)
def test_what_a_side_can_fail_with_is_survived(error: Exception) -> None:
    """The other one answers, and the reason is in the advisor's hands."""
    sources = {DEVICE: FakeSource(IDS, fails(3, error)), CLOUD: FakeSource(IDS)}
    advisor = FakeAdvisor(CLOUD)
    text = TextStream(loop_of(sources, advisor))
    assert "".join(chunk.text for chunk in text) == TEXT
    (request,) = advisor.requests
    assert advisor.generated == [IDS[:3]]
    assert (request.abandoned[DEVICE].code, request.abandoned[DEVICE].soft) == (
        VetoCode.FAILED,
        False,
    )


def test_a_mistake_is_no_failure_of_a_side() -> None:
    """What is wrong with the request is wrong on the other side, too: it is raised."""
    sources = {DEVICE: FakeSource(IDS, fails(1, RequestError("no"))), CLOUD: FakeSource(IDS)}
    text = TextStream(loop_of(sources, FakeAdvisor(CLOUD)))
    with pytest.raises(RequestError):
        list(text)
    assert not sources[CLOUD].asked
    assert sources[DEVICE].ended


def test_why_a_side_handed_over_is_told_to_the_advisor() -> None:
    """As it was given: it may yield."""
    advisor = FakeAdvisor(CLOUD, DEVICE)
    sources = {DEVICE: FakeSource(IDS, hands_off(2)), CLOUD: FakeSource(IDS, fails(2))}
    list(loop_of(sources, advisor).run())
    assert advisor.requests[0].abandoned == {DEVICE: MOVE}
    assert {side: veto.code for side, veto in advisor.requests[1].abandoned.items()} == {
        DEVICE: MOVE.code,
        CLOUD: VetoCode.FAILED,
    }
    assert [len(generated) for generated in advisor.generated] == [2, 4]


def test_with_nowhere_to_go_it_ends_as_an_error() -> None:
    """What was written stays, the cause is kept."""
    sources = {DEVICE: FakeSource(IDS, fails(3)), CLOUD: FakeSource(IDS)}
    text = TextStream(loop_of(sources, FakeAdvisor()))
    with pytest.raises(NoSourceError) as error:
        list(text)
    assert isinstance(error.value.__cause__, SourceFailedError)
    assert text.generation.finish_reason is FinishReason.ERROR
    assert text.generation.token_ids == IDS[:3]
    assert list(text) == []


def test_a_side_that_cuts_texts_is_request_for_no_more_than_fits() -> None:
    """And the text then ends with its window, unless it slides."""
    window = len(PROMPT) + 5
    for sliding, tokens in ((False, 5), (True, 9)):
        source = FakeSource(IDS, context_window=window)
        text = TextStream(
            loop_of({DEVICE: source}, FakeAdvisor(), max_tokens=9, sliding_window=sliding)
        )
        list(text)
        assert source.asked[0].max_tokens == tokens
        assert len(text.generation.token_ids) == tokens
        assert text.generation.finish_reason is FinishReason.LENGTH


def told(
    *, advisor: FakeAdvisor, sources: dict[Source, FakeSource], **options: object
) -> tuple[TextStream, list[Event]]:
    """A text, and the events that its writing makes."""
    events: list[Event] = []
    return TextStream(loop_of(sources, advisor, observers=[events.append], **options)), events


def names(events: list[Event]) -> list[str]:
    return [type(event).__name__ for event in events]


def test_events_tell_the_story_once_and_in_order() -> None:
    """A handoff, and one back; every token is some attempt's."""
    text, events = told(
        advisor=FakeAdvisor(CLOUD, DEVICE),
        sources={DEVICE: FakeSource(IDS, hands_off(4)), CLOUD: FakeSource(IDS, fails(3))},
        max_tokens=len(IDS),
    )
    list(text)
    text.close()
    again = ["AttemptEnded", "HandedOver", "Decided"]
    assert names(events) == ["Decided", *again, *again, "AttemptEnded", "Completed"]
    attempts = [event for event in events if isinstance(event, AttemptEnded)]
    assert [event.outcome for event in attempts] == [
        Outcome.HANDED_OVER,
        Outcome.FAILED,
        Outcome.FINISHED,
    ]
    assert [event.error for event in attempts] == [None, "SourceFailedError", None]
    assert [event.tokens for event in attempts] == [4, 3, len(IDS) - 7]
    assert [event.position for event in attempts] == [len(PROMPT) + n for n in (0, 4, 7)]
    moves = [event for event in events if isinstance(event, HandedOver)]
    assert [(event.source, event.tokens, event.why) for event in moves] == [
        (CLOUD, 4, MOVE.code),
        (DEVICE, 7, VetoCode.FAILED),
    ]
    decided = [event for event in events if isinstance(event, Decided)]
    assert [event.max_tokens for event in decided] == [len(IDS) - n for n in (0, 4, 7)]
    assert isinstance(events[-1], Completed)
    assert events[-1].segments == text.generation.segments
    assert len({event.generation for event in events}) == 1


@pytest.mark.parametrize("leaving", LEAVING)
def test_an_attempt_is_told_as_ended_when_it_has(leaving: str) -> None:
    """Its side is closed by then, though the text goes on."""
    device, ended = FakeSource(IDS, LEAVING[leaving](3)), []

    def observe(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.source is DEVICE:
            ended.append(list(device.ended))

    sources = {DEVICE: device, CLOUD: FakeSource(IDS)}
    for chunks in (1, len(IDS)):  # closed after one, and read to the end
        text = TextStream(loop_of(sources, FakeAdvisor(CLOUD), observers=[observe]))
        list(islice(text, chunks))
        text.close()
    assert ended == [device.ended[:1], device.ended[:2]]


def test_events_of_a_text_that_nobody_may_finish() -> None:
    """The refusal says how far it came, and it is over once."""
    text, events = told(
        advisor=FakeAdvisor(), sources={DEVICE: FakeSource(IDS, fails(2)), CLOUD: FakeSource(IDS)}
    )
    with pytest.raises(NoSourceError):
        list(text)
    text.close()
    assert names(events) == ["Decided", "AttemptEnded", "Refused", "Completed"]
    assert isinstance(events[2], Refused)
    assert events[2].tokens == 2
    assert isinstance(events[3], Completed)
    assert events[3].finish_reason is FinishReason.ERROR


def test_a_private_text_has_one_side_and_is_told_as_private() -> None:
    """It fails here rather than go elsewhere."""
    text, events = told(
        advisor=FakeAdvisor(CLOUD),
        sources={DEVICE: FakeSource(IDS, fails(2))},
        kind=PrivateRequest,
        hedge_after=0.001,
    )
    with pytest.raises(KeyError):  # an advisor that errs cannot make a side that is not there
        list(text)
    assert {event.privacy for event in events} == {"private"}


def test_closing_in_the_middle_ends_the_work_and_tells_so_once() -> None:
    """The side is closed; what was written stays, as cancelled."""
    source = FakeSource(IDS)
    text, events = told(advisor=FakeAdvisor(), sources={DEVICE: source, CLOUD: FakeSource(IDS)})
    next(text)
    text.close()
    text.close()
    assert source.ended == source.attempts
    assert source.attempts[0].stop.is_set()
    assert names(events) == ["Decided", "AttemptEnded", "Completed"]
    assert isinstance(events[1], AttemptEnded)
    assert events[1].outcome is Outcome.CANCELLED
    assert text.generation.finish_reason is FinishReason.CANCELLED
    assert text.generation.token_ids == IDS[:1]
    assert list(text) == []


def test_dropping_a_text_ends_the_work() -> None:
    """Nothing that runs beside it keeps it alive."""
    source = FakeSource(IDS)
    text, events = told(advisor=FakeAdvisor(), sources={DEVICE: source, CLOUD: FakeSource(IDS)})
    next(text)
    assert not source.ended
    del text
    assert source.ended
    assert names(events) == ["Decided", "AttemptEnded", "Completed"]


def test_closing_from_another_thread_ends_the_reading() -> None:
    """A side that is waited for is woken; the reader sees an end, and it is told once."""
    reached = threading.Event()
    device = FakeSource(IDS, hangs(3, reached))
    text, events = told(advisor=FakeAdvisor(), sources={DEVICE: device, CLOUD: FakeSource(IDS)})
    texts: list[str] = []
    reader = threading.Thread(
        target=lambda: texts.extend(chunk.text for chunk in text)  # ends without an error
    )
    reader.start()
    reached.wait()
    text.close()
    reader.join()
    assert "".join(texts) == TOKENIZER.decode(list(IDS[:3]))
    assert text.generation.finish_reason is FinishReason.CANCELLED
    assert names(events) == ["Decided", "AttemptEnded", "Completed"]
    assert device.ended == device.attempts


def test_closing_while_a_side_breaks_is_no_failure() -> None:
    """Nobody wants the text any more: the other side is not asked."""
    reached = threading.Event()

    def breaks(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from hangs(2, reached)(tokens, attempt)
        raise SourceFailedError("broken by being stopped")

    cloud = FakeSource(IDS)
    text, events = told(
        advisor=FakeAdvisor(CLOUD), sources={DEVICE: FakeSource(IDS, breaks), CLOUD: cloud}
    )
    reader = threading.Thread(target=lambda: list(text))
    reader.start()
    reached.wait()
    text.close()
    reader.join()
    assert not cloud.asked
    assert names(events) == ["Decided", "AttemptEnded", "Completed"]
    assert isinstance(events[1], AttemptEnded)
    assert (events[1].outcome, events[1].error) == (Outcome.CANCELLED, None)


def test_a_text_that_never_began_is_closed_without_any_work() -> None:
    """And told as over."""
    source = FakeSource(IDS)
    text, events = told(advisor=FakeAdvisor(), sources={DEVICE: source})
    text.close()
    assert list(text) == []
    assert not source.attempts
    assert names(events) == ["Decided", "Completed"]
    assert text.generation.finish_reason is FinishReason.CANCELLED


def test_the_vocabulary_of_the_fakes_is_as_real_ones_are() -> None:
    """Tokens of several characters, and characters of several tokens."""
    assert TOKENIZER.decode(list(IDS)) == TEXT
    assert any(len(TOKENIZER.token_bytes(id_)) > 1 for id_ in IDS)
    assert len(tokens_of("🌊")) > 1


def test_what_one_side_would_cut_the_other_may_finish() -> None:
    """The window of the side that began is no limit for the one that goes on."""
    device = FakeSource(IDS, fails(2), context_window=len(PROMPT) + 5)
    cloud = FakeSource(IDS)
    text = TextStream(
        loop_of({DEVICE: device, CLOUD: cloud}, FakeAdvisor(CLOUD), max_tokens=len(IDS))
    )
    assert "".join(chunk.text for chunk in text) == TEXT
    assert device.asked[0].max_tokens == 5
    assert cloud.asked[0].max_tokens == len(IDS) - 2


def test_a_mistake_is_told_as_a_failure() -> None:
    """Of the attempt, and of the text."""
    text, events = told(
        advisor=FakeAdvisor(), sources={DEVICE: FakeSource(IDS, fails(1, RequestError("no")))}
    )
    with pytest.raises(RequestError):
        list(text)
    (ended,) = (event for event in events if isinstance(event, AttemptEnded))
    assert (ended.outcome, ended.error) == (Outcome.FAILED, "RequestError")
    assert text.generation.finish_reason is FinishReason.ERROR


def test_reading_on_while_another_thread_closes_is_no_error() -> None:
    """The reader waits until it is closed, and sees the end."""
    closing, read_on = threading.Event(), threading.Event()

    class Lingering(FakeSource):
        def run(self, request: TokenRequest, attempt: Attempt) -> Iterator[int]:
            try:
                yield from super().run(request, attempt)
            finally:
                closing.set()
                read_on.wait()

    text = TextStream(loop_of({DEVICE: Lingering(IDS)}, FakeAdvisor()))
    next(text)
    closer = threading.Thread(target=text.close)
    closer.start()
    closing.wait()
    threading.Timer(0.1, read_on.set).start()  # when the reader is there
    try:
        assert list(text) == []
    finally:
        read_on.set()
        closer.join()
    assert text.generation.finish_reason is FinishReason.CANCELLED
