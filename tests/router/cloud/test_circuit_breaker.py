"""CircuitBreaker: when it opens, for how long, and which request may try the cloud again."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker

COOLDOWN = 10.0


class FakeClock:
    """Time that passes only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def breaker(clock):
    """A breaker that opens after three failures, for 10 s."""
    return CircuitBreaker(threshold=3, cooldown=COOLDOWN, clock=clock)


def fail(breaker, times):
    """Record failures in a row."""
    return [breaker.failed() for _ in range(times)]


@pytest.mark.parametrize(("failures", "is_open"), [(0, False), (1, False), (2, False), (3, True)])
def test_three_failures_in_a_row_open_it(breaker, failures, is_open):
    """Not fewer."""
    fail(breaker, failures)
    assert breaker.open is is_open
    assert (breaker.acquire() is None) is is_open


def test_opening_is_reported_once(breaker):
    """So that only one health probe is started."""
    assert fail(breaker, 5) == [False, False, True, False, False]


def test_success_resets_the_count(breaker):
    """Failures with a success between them are not in a row."""
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.open


def test_failures_far_apart_are_in_a_row(breaker, clock):
    """Time alone does not reset the count."""
    for _ in range(3):
        clock.now += 10 * COOLDOWN
        breaker.failed()
    assert breaker.open


def test_stays_open_for_the_cooldown(breaker, clock):
    """Until just before its end."""
    fail(breaker, 3)
    clock.now += COOLDOWN - 0.001
    assert breaker.state is Circuit.OPEN


def test_after_the_cooldown_one_request_may_try(breaker, clock):
    """And no other until that one has an outcome."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    assert breaker.state is Circuit.HALF_OPEN
    assert not breaker.open
    assert breaker.acquire()
    assert breaker.open
    assert not breaker.acquire()


def test_only_one_of_many_threads_may_try(breaker, clock):
    """If they ask at the same time."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    with ThreadPoolExecutor(16) as pool:
        permits = list(pool.map(lambda _: breaker.acquire(), range(200)))
    assert sum(permit is not None for permit in permits) == 1


def test_healthy_cloud_may_be_tried_at_once(breaker):
    """allow_trial() ends the cooldown."""
    fail(breaker, 3)
    breaker.allow_trial()
    assert breaker.acquire()
    assert not breaker.acquire()


def test_failed_trial_opens_it_again(breaker, clock):
    """For another whole cooldown."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    assert breaker.acquire()
    breaker.failed()
    clock.now += COOLDOWN - 0.001
    assert not breaker.acquire()
    clock.now += 0.001
    assert breaker.acquire()


def test_successful_trial_closes_it(breaker, clock):
    """After it, it takes three failures again."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    assert breaker.acquire()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state is Circuit.CLOSED
    assert breaker.acquire()
    assert breaker.acquire()


def test_trial_without_an_outcome_lets_another_request_try(breaker, clock):
    """A request that is cancelled before the first token says nothing about the cloud."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    permit = breaker.acquire()
    breaker.release(permit)
    assert breaker.acquire()


def test_earlier_request_does_not_end_the_trial(breaker, clock):
    """A permit from before the circuit opened is not the trial's."""
    earlier = breaker.acquire()
    fail(breaker, 3)
    clock.now += COOLDOWN
    assert breaker.acquire()
    breaker.release(earlier)
    assert not breaker.acquire()


def test_failed_trial_reports_that_it_opened(breaker, clock):
    """So that a health probe is started again."""
    fail(breaker, 3)
    clock.now += COOLDOWN
    assert breaker.acquire()
    assert breaker.failed()


def test_success_while_open_closes_it(breaker):
    """A request in flight that succeeds shows that the cloud is healthy."""
    fail(breaker, 3)
    breaker.succeeded()
    assert not breaker.open


def test_reading_the_state_changes_nothing(breaker, clock):
    """Neither the cooldown nor who may try."""
    fail(breaker, 3)
    for _ in range(10):
        assert breaker.open
    clock.now += COOLDOWN
    assert not breaker.open
    assert not breaker.open
    assert breaker.acquire()


def test_reading_the_state_never_blocks():
    """Not even while another thread is changing it."""
    changing, finish = threading.Event(), threading.Event()

    def blocking_clock():
        changing.set()
        finish.wait()
        return 0.0

    breaker = CircuitBreaker(clock=blocking_clock)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(breaker.failed)
        changing.wait()
        assert pool.submit(lambda: (breaker.state, breaker.open)).result() == (
            Circuit.CLOSED,
            False,
        )
        finish.set()


def test_threshold_of_one(clock):
    """It opens after the first failure."""
    breaker = CircuitBreaker(threshold=1, clock=clock)
    assert breaker.failed()
    assert breaker.open
