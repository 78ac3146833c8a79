"""Closing a stream: early, before its start, from another thread, or by dropping it."""

import threading
from collections.abc import Iterator

from edgewise.errors import SourceFailedError
from edgewise.generation.attempt import Attempt
from edgewise.generation.events import AttemptEnded, Outcome
from edgewise.testing import completes, hangs_after
from edgewise_edge import FinishReason
from tests.router.generation.fakes import (
    CLOUD,
    DEVICE,
    TOKENIZER,
    FakeAdvisor,
    names_of,
    new_cloud,
    new_device,
    new_stream,
    new_stream_with_events,
    read,
    tokens_of,
)

TEXT = "the end comes early"
IDS = tokens_of(TEXT)


def test_closing_early_stops_the_source_and_keeps_the_answer_so_far() -> None:
    """The finish reason is `cancelled`; closing twice changes nothing."""
    source = new_device(TEXT)
    stream, events = new_stream_with_events({DEVICE: source, CLOUD: new_cloud(TEXT)}, FakeAdvisor())
    next(stream)
    stream.close()
    stream.close()
    assert len(source.requests) == 1
    assert not source.running
    assert names_of(events) == ["Decided", "AttemptEnded", "Completed"]
    assert isinstance(events[1], AttemptEnded)
    assert events[1].outcome is Outcome.CANCELLED
    assert stream.generation.finish_reason is FinishReason.CANCELLED
    assert stream.generation.token_ids == IDS[:1]
    assert list(stream) == []


def test_closing_before_the_first_chunk_runs_nothing() -> None:
    """The generation is reported as completed all the same."""
    source = new_device(TEXT)
    stream, events = new_stream_with_events({DEVICE: source}, FakeAdvisor())
    stream.close()
    assert list(stream) == []
    assert not source.requests
    assert names_of(events) == ["Decided", "Completed"]
    assert stream.generation.finish_reason is FinishReason.CANCELLED


def test_dropping_the_last_reference_stops_the_source() -> None:
    """The monitor's thread does not keep the stream alive."""
    source = new_device(TEXT)
    stream, events = new_stream_with_events({DEVICE: source, CLOUD: new_cloud(TEXT)}, FakeAdvisor())
    next(stream)
    assert source.running
    del stream
    assert not source.running
    assert names_of(events) == ["Decided", "AttemptEnded", "Completed"]


def test_closing_from_another_thread_ends_the_iteration() -> None:
    """A source that hangs is woken, and the reader gets the end without an error."""
    hanging = threading.Event()
    device = new_device(TEXT, hangs_after(3, hanging))
    stream, events = new_stream_with_events({DEVICE: device, CLOUD: new_cloud(TEXT)}, FakeAdvisor())
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append(read(stream)))
    reader.start()
    hanging.wait()
    stream.close()
    reader.join()
    assert texts == [TOKENIZER.decode(list(IDS[:3]))]
    assert stream.generation.finish_reason is FinishReason.CANCELLED
    assert names_of(events) == ["Decided", "AttemptEnded", "Completed"]
    assert not device.running


def test_source_that_fails_because_it_was_closed_is_cancelled() -> None:
    """That is no failure, and the other source does not continue."""
    hanging = threading.Event()

    def fails_when_stopped(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        yield from hangs_after(2, hanging)(tokens, attempt)
        raise SourceFailedError("stopped")

    cloud = new_cloud(TEXT)
    stream, events = new_stream_with_events(
        {DEVICE: new_device(TEXT, fails_when_stopped), CLOUD: cloud}, FakeAdvisor(CLOUD)
    )
    reader = threading.Thread(target=read, args=(stream,))
    reader.start()
    hanging.wait()
    stream.close()
    reader.join()
    assert not cloud.requests
    assert names_of(events) == ["Decided", "AttemptEnded", "Completed"]
    assert isinstance(events[1], AttemptEnded)
    assert (events[1].outcome, events[1].error) == (Outcome.CANCELLED, None)


def test_reading_while_another_thread_closes_is_no_error() -> None:
    """The reader waits until the stream is closed, and gets its end."""
    closing, may_close = threading.Event(), threading.Event()

    def closes_slowly(tokens: Iterator[int], attempt: Attempt) -> Iterator[int]:
        try:
            yield from completes(tokens, attempt)
        finally:
            closing.set()
            may_close.wait()

    stream = new_stream({DEVICE: new_device(TEXT, closes_slowly)}, FakeAdvisor())
    next(stream)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closing.wait()
    threading.Timer(0.1, may_close.set).start()  # after the reader has reached the lock
    try:
        assert list(stream) == []
    finally:
        may_close.set()
        closer.join()
    assert stream.generation.finish_reason is FinishReason.CANCELLED
