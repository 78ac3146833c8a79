"""An attempt: its timing and progress, and how it is stopped from another thread."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from edgewise.generation.attempt import Attempt, StopSignal
from edgewise.latency.measurement import Measurement
from edgewise.policy.types import PredictedTime, Source, Veto, VetoCode

PREDICTED = PredictedTime(first_token=2.0, total=5.0, gap=0.5)
HOT = Veto(VetoCode.TEMPERATURE, "it is hot", soft=True)


def new_attempt(
    tokens: Callable[[], Iterator[int]] = lambda: iter(()),
    max_tokens: int = 10,
    predicted: PredictedTime = PREDICTED,
    **options: float,
) -> Attempt:
    """An attempt at position 3 whose source generates `tokens()`."""
    return Attempt(
        Source.ON_DEVICE, 3, max_tokens, lambda _attempt: tokens(), predicted=predicted, **options
    )


def test_stop_signal_calls_each_callback_once() -> None:
    """Those added before it is set and those added after, however often it is set."""
    stop, calls = StopSignal(), []
    stop.add_callback(lambda: calls.append("before"))
    stop.set()
    stop.set()
    stop.add_callback(lambda: calls.append("after"))
    assert calls == ["before", "after"]
    assert stop.is_set()
    assert stop.wait(0)


def test_callback_may_use_the_stop_signal() -> None:
    """It is called without the signal's lock."""
    stop, calls = StopSignal(), []
    stop.add_callback(lambda: stop.add_callback(lambda: calls.append(stop.is_set())))
    stop.add_callback(stop.set)
    stop.set()
    assert calls == [True]


def test_concurrent_threads_lose_and_repeat_no_callback() -> None:
    """Each is called once, whether it is added before, during or after the setting."""
    for _ in range(50):
        stop, calls, start = StopSignal(), [], threading.Barrier(4)

        def add(name: int, stop: StopSignal = stop, calls: list = calls, start=start) -> None:
            start.wait()
            for call in range(20):
                stop.add_callback(lambda call=call: calls.append((name, call)))

        def set_it(stop: StopSignal = stop, start=start) -> None:
            start.wait()
            stop.set()

        threads = [threading.Thread(target=add, args=(name,)) for name in range(3)]
        threads.append(threading.Thread(target=set_it))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(calls) == [(name, call) for name in range(3) for call in range(20)]


def test_handoff_sets_the_reason_before_the_stop_signal() -> None:
    """The code that the signal wakes reads the reason."""
    attempt, seen = new_attempt(), []
    attempt.stop.add_callback(lambda: seen.append(attempt.handoff))
    attempt.hand_off(HOT)
    assert seen == [HOT]


def test_progress_before_the_first_token_follows_the_prediction() -> None:
    """The predicted first token, and a gap for each further one."""
    progress = new_attempt(max_tokens=5).progress()
    assert (progress.silent, progress.expected, progress.remaining) == (0.0, 2.0, 2.0 + 4 * 0.5)


def test_progress_without_a_prediction_is_unknown() -> None:
    """What has not been predicted is None, not zero."""
    progress = new_attempt(predicted=PredictedTime()).progress()
    assert (progress.expected, progress.remaining) == (None, None)
    progress = new_attempt(predicted=PredictedTime(first_token=1.0)).progress()
    assert (progress.expected, progress.remaining) == (1.0, None)


def test_progress_follows_the_measured_gap_after_eight_tokens() -> None:
    """Before that, the predicted one."""
    attempt = new_attempt(max_tokens=20)
    attempt.tokens, attempt.first_token, attempt.decode_time = 8, 1.0, 0.7
    assert attempt.progress().expected == 0.5
    attempt.tokens, attempt.decode_time = 9, 0.8
    progress = attempt.progress()
    assert progress.expected == pytest.approx(0.1)
    assert progress.remaining == pytest.approx(0.1 + 10 * 0.1)


def test_no_time_remains_after_the_last_token() -> None:
    """Whatever the gap."""
    attempt = new_attempt(max_tokens=9)
    attempt.tokens, attempt.first_token, attempt.decode_time = 9, 1.0, 1.6
    assert attempt.progress().remaining == pytest.approx(0)


def test_silence_counts_only_while_a_token_is_awaited() -> None:
    """Not while the caller has a token in hand."""
    awaited: list[bool] = []

    def tokens() -> Iterator[int]:
        for token in range(3):
            awaited.append(attempt.waiting_since is not None)
            yield token

    attempt = new_attempt(tokens)
    for _ in attempt:
        assert attempt.waiting_since is None
        assert attempt.progress().silent == 0
    assert awaited == [True] * 3
    assert attempt.waiting_since is None
    assert attempt.tokens == 3


def test_failure_ends_the_waiting_and_is_not_timed() -> None:
    """The time until the error is part of no token's."""

    def fails() -> Iterator[int]:
        yield 1
        raise RuntimeError

    attempt = new_attempt(fails)
    with pytest.raises(RuntimeError):
        list(attempt)
    assert attempt.waiting_since is None
    assert (attempt.tokens, attempt.decode_time) == (1, 0.0)


def test_progress_may_be_read_while_another_thread_generates() -> None:
    """Its values are consistent enough: none is negative by more than one gap."""
    reading, done, seen = threading.Event(), threading.Event(), []

    def tokens() -> Iterator[int]:
        reading.wait()
        yield from range(20_000)

    attempt = new_attempt(tokens, max_tokens=20_000)

    def read_progress() -> None:
        while not done.is_set():
            seen.append(attempt.progress())
            reading.set()

    reader = threading.Thread(target=read_progress)
    reader.start()
    for _ in attempt:
        pass
    done.set()
    reader.join()
    for progress in seen:
        assert progress.silent >= 0
        assert progress.expected >= 0
        assert progress.remaining >= -progress.expected


def test_measurement_holds_the_timing_of_the_attempt() -> None:
    """Its position, uncached tokens, generated tokens and times; none before the first token."""
    attempt = new_attempt(lambda: iter(range(4)))
    assert attempt.measurement() is None
    attempt.uncached = 2
    list(attempt)
    measured = attempt.measurement()
    assert (measured.position, measured.uncached, measured.tokens) == (3, 2, 4)
    assert (measured.first_token, measured.decode_time) == (
        attempt.first_token,
        attempt.decode_time,
    )


def test_time_left_counts_from_the_start_of_the_attempt() -> None:
    """It is never negative, and None without a timeout."""
    assert new_attempt().time_left is None
    attempt = new_attempt(timeout=100.0)
    attempt.started -= 40
    assert 0 < attempt.time_left <= 60
    attempt.started -= 100
    assert attempt.time_left == 0


def test_time_to_first_token_counts_from_when_the_source_is_ready() -> None:
    """The time to load a model or to connect is not part of it."""

    def run(attempt: Attempt) -> Iterator[int]:
        attempt.waiting_since -= 10_000  # as if loading had taken that long
        attempt.ready(uncached=3, load_time=10_000.0)
        yield 1

    attempt = Attempt(Source.ON_DEVICE, 3, 5, run)
    assert list(attempt) == [1]
    assert attempt.first_token < 10_000
    assert (attempt.load_time, attempt.uncached) == (10_000.0, 3)


def test_prefetched_token_comes_first_and_is_counted_once() -> None:
    """The iteration returns it and continues."""
    attempt = new_attempt(lambda: iter((7, 8)))
    assert attempt.prefetch()
    assert attempt.tokens == 1
    assert list(attempt) == [7, 8]
    assert attempt.tokens == 2


def test_prefetched_error_is_raised_by_the_iteration() -> None:
    """Until then `prefetch_error` holds it; an attempt without tokens has neither."""

    def fails() -> Iterator[int]:
        raise OSError("no such file")
        yield

    attempt = new_attempt(fails)
    assert not attempt.prefetch()
    assert isinstance(attempt.prefetch_error, OSError)
    with pytest.raises(OSError, match="no such file"):
        list(attempt)
    empty = new_attempt()
    assert not empty.prefetch()
    assert empty.prefetch_error is None


def test_attempt_that_is_left_before_its_first_token_never_runs() -> None:
    """Its source is not even called."""
    calls = []
    with Attempt(Source.ON_DEVICE, 3, 5, calls.append):
        pass
    assert not calls


@pytest.mark.parametrize("ended", ["stopped", "timed out", "failed", "frozen"])
def test_wait_that_was_ended_from_here_is_a_lower_bound(ended: str) -> None:
    """A race that was lost, or a stall; not a failure, nor the time of a frozen process."""
    learned = list[Measurement | None]()

    def run(attempt: Attempt) -> Iterator[int]:
        attempt.ready(uncached=3)
        attempt.waiting_since -= 7
        attempt.timed_out = ended == "timed out"
        if ended in {"stopped", "frozen"}:
            attempt.stop.set()
        if ended == "frozen":
            attempt.thawed()
        learned.append(attempt.measurement())
        yield from ()

    assert list(Attempt(Source.IN_CLOUD, 3, 9, run)) == []
    (bound,) = learned
    assert (bound is None) == (ended in {"failed", "frozen"})
    assert bound is None or (bound.first_token >= 7 and not bound.complete)


def test_silence_starts_again_after_a_freeze() -> None:
    """The source may have sent tokens that are not read yet."""
    attempt = new_attempt()
    attempt.waiting_since = time.monotonic() - 60
    assert attempt.progress().silent >= 60
    attempt.thawed()
    assert attempt.progress().silent < 60


def test_nothing_starts_after_a_stop_signal_and_what_started_is_cancelled() -> None:
    """In whichever thread it is set, and even if another one is setting it: both have returned."""
    for _ in range(100):
        stop, running, start = StopSignal(), set[object](), threading.Barrier(4)

        def begin(stop: StopSignal = stop, running: set = running, start=start) -> None:
            start.wait()
            for _ in range(20):
                stop.start_unless_set(lambda: running.add(call := object()) or call, running.remove)

        left: list[int] = []

        def set_it(stop=stop, running: set = running, start=start, left: list = left) -> None:
            start.wait()
            stop.set()
            left.append(len(running))

        threads = [threading.Thread(target=work) for work in (begin, begin, set_it, set_it)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert left == [0, 0]
        assert not running
