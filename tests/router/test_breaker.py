"""The circuit breaker: when the cloud is left alone, and for how long."""

import pytest

from edgewise.breaker import CircuitBreaker

REST = 30.0


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
    """A breaker that opens after three failures, for 30 s."""
    return CircuitBreaker(threshold=3, rest=REST, clock=clock)


def fail(breaker, times):
    """Let that many requests fail in a row."""
    for _ in range(times):
        breaker.failed()


@pytest.mark.parametrize(("failures", "is_open"), [(0, False), (1, False), (2, False), (3, True)])
def test_three_failures_in_a_row_open_it(breaker, failures, is_open):
    """It takes three failures to leave the cloud alone, not fewer."""
    fail(breaker, failures)
    assert breaker.open is is_open


def test_three_failures_and_half_a_minute_are_the_default(clock):
    """Unless told otherwise, three failures open it for 30 s."""
    breaker = CircuitBreaker(clock=clock)
    fail(breaker, 2)
    assert not breaker.open
    fail(breaker, 1)
    clock.now += 29.9
    assert breaker.open
    clock.now += 0.2
    assert not breaker.open


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
    assert breaker.open


def test_after_the_rest_a_request_may_try(breaker, clock):
    """Once the rest is over, the cloud is tried."""
    fail(breaker, 3)
    clock.now += REST
    assert not breaker.open


def test_one_more_failure_opens_it_again(breaker, clock):
    """A try that fails opens it at once, and for another whole rest."""
    fail(breaker, 3)
    clock.now += REST
    breaker.failed()
    clock.now += REST - 0.001
    assert breaker.open
    clock.now += 0.001
    assert not breaker.open


def test_a_try_that_succeeds_closes_it(breaker, clock):
    """After a try that succeeds it takes three failures again."""
    fail(breaker, 3)
    clock.now += REST
    breaker.succeeded()
    fail(breaker, 2)
    assert not breaker.open


def test_a_success_while_open_closes_it(breaker):
    """A request that was under way and succeeds proves the cloud well."""
    fail(breaker, 3)
    breaker.succeeded()
    assert not breaker.open


def test_looking_changes_nothing(breaker, clock):
    """However often it is asked, the rest is neither longer nor shorter."""
    fail(breaker, 3)
    for _ in range(10):
        assert breaker.open
    clock.now += REST
    assert not breaker.open
    assert not breaker.open


def test_a_threshold_of_one(clock):
    """A breaker can be told to open after the first failure."""
    breaker = CircuitBreaker(threshold=1, clock=clock)
    breaker.failed()
    assert breaker.open
