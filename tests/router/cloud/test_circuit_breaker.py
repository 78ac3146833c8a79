"""The circuit breaker: when the cloud is left alone, for how long, and who may try it again."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from edgewise.cloud.circuit_breaker import Circuit, CircuitBreaker

REST = 10.0


class FakeClock:
    """Seconds that pass when told to."""

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
    return CircuitBreaker(threshold=3, rest=REST, clock=clock)


def fail(breaker, times):
    """Let that many requests fail in a row."""
    return [breaker.failed() for _ in range(times)]


@pytest.mark.parametrize(("failures", "is_open"), [(0, False), (1, False), (2, False), (3, True)])
def test_three_failures_in_a_row_open_it(breaker, failures, is_open):
    """It takes three failures to leave the cloud alone, not fewer."""
    fail(breaker, failures)
    assert breaker.open is is_open
    assert (breaker.enter() is None) is is_open


def test_it_says_once_that_it_opened(breaker):
    """Whoever looks after the cloud from then on need not start twice."""
    assert fail(breaker, 5) == [False, False, True, False, False]


def test_a_success_starts_the_count_anew(breaker):
    """Failures with a success among them are not in a row."""
    fail(breaker, 2)
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.open


def test_failures_far_apart_are_still_in_a_row(breaker, clock):
    """Time alone does not make up for a failure; a success does."""
    for _ in range(3):
        clock.now += 10 * REST
        breaker.failed()
    assert breaker.open


def test_it_stays_open_for_the_rest(breaker, clock):
    """Just before the rest is over the cloud is still left alone."""
    fail(breaker, 3)
    clock.now += REST - 0.001
    assert breaker.state is Circuit.OPEN


def test_after_the_rest_one_request_may_try(breaker, clock):
    """One, and no other until it has told how it went."""
    fail(breaker, 3)
    clock.now += REST
    assert breaker.state is Circuit.HALF_OPEN
    assert not breaker.open
    assert breaker.enter()
    assert breaker.open
    assert not breaker.enter()


def test_of_many_at_once_one_may_try(breaker, clock):
    """However many threads ask in the same moment."""
    fail(breaker, 3)
    clock.now += REST
    with ThreadPoolExecutor(16) as pool:
        entered = list(pool.map(lambda _: breaker.enter(), range(200)))
    assert sum(entry is not None for entry in entered) == 1


def test_a_cloud_that_looks_well_may_be_tried_at_once(breaker):
    """Whoever looked after it ends the rest."""
    fail(breaker, 3)
    breaker.rested()
    assert breaker.enter()
    assert not breaker.enter()


def test_a_try_that_fails_opens_it_again(breaker, clock):
    """For another whole rest."""
    fail(breaker, 3)
    clock.now += REST
    assert breaker.enter()
    breaker.failed()
    clock.now += REST - 0.001
    assert not breaker.enter()
    clock.now += 0.001
    assert breaker.enter()


def test_a_try_that_succeeds_closes_it(breaker, clock):
    """After it, it takes three failures again."""
    fail(breaker, 3)
    clock.now += REST
    assert breaker.enter()
    breaker.succeeded()
    fail(breaker, 2)
    assert breaker.state is Circuit.CLOSED
    assert breaker.enter()
    assert breaker.enter()


def test_a_try_that_tells_nothing_lets_another_one_try(breaker, clock):
    """A reader who walked away before the first token says nothing about the cloud."""
    fail(breaker, 3)
    clock.now += REST
    entry = breaker.enter()
    breaker.withdrawn(entry)
    assert breaker.enter()


def test_a_request_from_before_ends_nobodys_try(breaker, clock):
    """Who entered while it was closed, and ends now, is not the one that tries."""
    earlier = breaker.enter()
    fail(breaker, 3)
    clock.now += REST
    assert breaker.enter()
    breaker.withdrawn(earlier)
    assert not breaker.enter()


def test_a_try_that_fails_says_that_it_opened_again(breaker, clock):
    """So that someone looks after the cloud from then on."""
    fail(breaker, 3)
    clock.now += REST
    assert breaker.enter()
    assert breaker.failed()


def test_a_success_while_open_closes_it(breaker):
    """A request that was under way and succeeds proves the cloud well."""
    fail(breaker, 3)
    breaker.succeeded()
    assert not breaker.open


def test_looking_changes_nothing(breaker, clock):
    """However often it is asked, the rest is neither longer nor shorter, and nobody's try is gone."""
    fail(breaker, 3)
    for _ in range(10):
        assert breaker.open
    clock.now += REST
    assert not breaker.open
    assert not breaker.open
    assert breaker.enter()


def test_looking_waits_for_nobody(breaker):
    """While another thread holds it, its state can be read."""
    with breaker._lock:
        assert breaker.state is Circuit.CLOSED
        assert not breaker.open


def test_a_threshold_of_one(clock):
    """A breaker can be told to open after the first failure."""
    breaker = CircuitBreaker(threshold=1, clock=clock)
    assert breaker.failed()
    assert breaker.open
