"""An attempt by itself: what it tells of its progress, and how it is ended from elsewhere."""

import threading
from collections.abc import Callable, Iterator

import pytest

from edgewise.generation.attempt import Attempt, StopSignal
from edgewise.policy.types import PredictedTime, Source, Veto, VetoCode

PREDICTED = PredictedTime(first_token=2.0, total=5.0, gap=0.5)
HOT = Veto(VetoCode.TEMPERATURE, "it is hot", soft=True)


def attempt_of(
    tokens: Callable[[], Iterator[int]] | None = None,
    max_tokens: int = 10,
    predicted: PredictedTime = PREDICTED,
) -> Attempt:
    return Attempt(Source.ON_DEVICE, 3, max_tokens, tokens_of(tokens), predicted=predicted)


def tokens_of(
    tokens: Callable[[], Iterator[int]] | None = None,
) -> Callable[[Attempt], Iterator[int]]:
    return lambda _attempt: tokens() if tokens else iter(())


def test_a_stop_calls_back_once() -> None:
    """Those who asked before it, and those who ask after; however often it is set."""
    stop, calls = StopSignal(), []
    stop.add_callback(lambda: calls.append("before"))
    stop.set()
    stop.set()
    stop.add_callback(lambda: calls.append("after"))
    assert calls == ["before", "after"]
    assert stop.is_set()
    assert stop.wait(0)


def test_a_callback_may_use_the_stop_itself() -> None:
    """It is called with nothing held."""
    stop, calls = StopSignal(), []
    stop.add_callback(lambda: stop.add_callback(lambda: calls.append(stop.is_set())))
    stop.add_callback(stop.set)
    stop.set()
    assert calls == [True]


def test_no_callback_is_missed_or_repeated_among_threads() -> None:
    """Each is called exactly once, whether it comes before the end, in it or after."""
    for _ in range(50):
        stop, calls, start = StopSignal(), [], threading.Barrier(4)

        def ask(name: int, stop: StopSignal = stop, calls: list = calls, start=start) -> None:
            start.wait()
            for call in range(20):
                stop.add_callback(lambda call=call: calls.append((name, call)))

        def end(stop: StopSignal = stop, start=start) -> None:
            start.wait()
            stop.set()

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(3)]
        threads.append(threading.Thread(target=end))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(calls) == [(name, call) for name in range(3) for call in range(20)]


def test_handing_over_says_why_before_it_stops() -> None:
    """Whoever is woken by the stop knows the reason."""
    attempt, seen = attempt_of(), []
    attempt.stop.add_callback(lambda: seen.append(attempt.handoff))
    attempt.hand_off(HOT)
    assert seen == [HOT]


def test_before_the_first_token_the_prediction_is_all_there_is() -> None:
    """The first token, and a gap for each other one."""
    progress = attempt_of(max_tokens=5).progress()
    assert (progress.silent, progress.expected, progress.remaining) == (0.0, 2.0, 2.0 + 4 * 0.5)


def test_what_is_not_known_is_not_made_up() -> None:
    """No prediction, no expectation."""
    progress = attempt_of(predicted=PredictedTime()).progress()
    assert (progress.expected, progress.remaining) == (None, None)
    progress = attempt_of(predicted=PredictedTime(first_token=1.0)).progress()
    assert (progress.expected, progress.remaining) == (1.0, None)


def test_after_some_tokens_its_own_pace_counts() -> None:
    """And until then the predicted one."""
    attempt = attempt_of(max_tokens=20)
    attempt.tokens, attempt.first_token, attempt.decode_time = 8, 1.0, 0.7
    assert attempt.progress().expected == 0.5
    attempt.tokens, attempt.decode_time = 9, 0.8
    progress = attempt.progress()
    assert progress.expected == pytest.approx(0.1)
    assert progress.remaining == pytest.approx(0.1 + 10 * 0.1)


def test_nothing_remains_after_the_last_token() -> None:
    """Whatever the pace."""
    attempt = attempt_of(max_tokens=9)
    attempt.tokens, attempt.first_token, attempt.decode_time = 9, 1.0, 1.6
    assert attempt.progress().remaining == pytest.approx(0)


def test_only_waiting_is_silence() -> None:
    """While the reader has a token in hand, nobody is waited for."""
    silent: list[bool] = []

    def tokens():
        for token in range(3):
            silent.append(attempt.waiting_since is not None)
            yield token

    attempt = attempt_of(tokens)
    for _ in attempt:
        assert attempt.waiting_since is None
        assert attempt.progress().silent == 0
    assert silent == [True] * 3
    assert attempt.waiting_since is None
    assert attempt.tokens == 3


def test_a_side_that_breaks_is_not_waited_for_any_more() -> None:
    """Nor is the time until then part of any token's."""

    def broken():
        yield 1
        raise RuntimeError

    attempt = attempt_of(broken)
    with pytest.raises(RuntimeError):
        list(attempt)
    assert attempt.waiting_since is None
    assert (attempt.tokens, attempt.decode_time) == (1, 0.0)


def test_progress_may_be_read_while_another_thread_writes() -> None:
    """What it says is always possible."""
    attempt = attempt_of(lambda: (token for token in range(20_000)), max_tokens=20_000)
    done, seen = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            seen.append(attempt.progress())

    watcher = threading.Thread(target=look)
    watcher.start()
    for _ in attempt:
        pass
    done.set()
    watcher.join()
    assert seen
    for progress in seen:
        assert progress.silent >= 0
        assert progress.expected >= 0
        assert progress.remaining > -1e-3


def test_what_is_measured_is_what_was_timed() -> None:
    """Its beginning, what it had to read, and its tokens."""
    attempt = attempt_of(lambda: (token for token in range(4)))
    assert attempt.measurement() is None
    attempt.uncached = 2
    list(attempt)
    measured = attempt.measurement()
    assert (measured.position, measured.uncached, measured.tokens) == (3, 2, 4)
    assert (measured.first_token, measured.decode_time) == (
        attempt.first_token,
        attempt.decode_time,
    )


def test_time_left_runs_from_its_start() -> None:
    """And is never negative."""
    assert attempt_of().time_left is None
    attempt = Attempt(Source.IN_CLOUD, 3, 5, tokens_of(), timeout=100.0)
    attempt.started -= 40
    assert 0 < attempt.time_left <= 60
    attempt.started -= 100
    assert attempt.time_left == 0


def test_the_time_to_the_first_token_counts_from_when_the_source_is_ready() -> None:
    """Loading a model or connecting before that is not in it."""
    seen = []

    def run(attempt: Attempt) -> Iterator[int]:
        attempt.waiting_since -= 100  # it took so long to load
        attempt.ready(uncached=3, load_time=100.0)
        yield 1

    attempt = Attempt(Source.ON_DEVICE, 3, 5, run)
    seen += attempt
    assert seen == [1]
    assert attempt.first_token < 100
    assert (attempt.load_time, attempt.uncached) == (100.0, 3)


def test_a_prefetched_token_comes_first_and_is_timed_once() -> None:
    """Its error, too, is raised by the iteration."""
    attempt = attempt_of(lambda: (token for token in (7, 8)))
    assert attempt.prefetch()
    assert attempt.tokens == 1
    assert list(attempt) == [7, 8]
    assert attempt.tokens == 2

    def broken():
        raise OSError("broken")
        yield

    attempt = attempt_of(broken)
    assert not attempt.prefetch()
    assert isinstance(attempt.prefetch_error, OSError)
    with pytest.raises(OSError, match="broken"):
        list(attempt)
    assert not attempt_of().prefetch()


def test_an_attempt_that_never_ran_has_nothing_to_end() -> None:
    """Its source is not even asked."""
    asked = []
    with Attempt(Source.ON_DEVICE, 3, 5, asked.append):
        pass
    assert not asked
