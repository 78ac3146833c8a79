"""Expected step times and waits, from measured ones."""

import pytest

from edgewise_cloud.serving.engine.step_time import StepTimeEstimator


def test_without_measurements_nothing_takes_time() -> None:
    """So no request is refused for a guess."""
    estimator = StepTimeEstimator()
    assert estimator.step_time(3) == 0
    assert estimator.wait(1, [10], []).new_request == 0


def test_a_step_takes_the_median_of_the_nearest_batch_size() -> None:
    """One stall does not make a machine slow."""
    estimator = StepTimeEstimator()
    estimator.record_step(1, 0.02)
    for seconds in (0.04, 0.05, 5.0, 0.06, 0.05):
        estimator.record_step(16, seconds)
    assert estimator.step_time(2) == 0.02
    assert estimator.step_time(16) == estimator.step_time(12) == 0.05


def test_only_the_last_nine_steps_count() -> None:
    """Older measurements are dropped."""
    estimator = StepTimeEstimator()
    for seconds in (*[1.0] * 20, *[0.1] * 5):
        estimator.record_step(1, seconds)
    assert estimator.step_time(1) == 0.1


def test_clearing_forgets_everything() -> None:
    """As if nothing had been measured."""
    estimator = StepTimeEstimator()
    estimator.record_step(1, 1.0)
    estimator.record_tokens(0.0, 9)
    estimator.clear()
    assert estimator.step_time(1) == estimator.tokens_per_second(0.0) == 0


def test_tokens_are_counted_over_five_seconds() -> None:
    """Older ones are dropped."""
    estimator = StepTimeEstimator()
    for moment, tokens in ((0.0, 100), (7.0, 10), (9.0, 20)):
        estimator.record_tokens(moment, tokens)
    assert estimator.tokens_per_second(10.0) == pytest.approx(6)
    assert estimator.tokens_per_second(13.0) == pytest.approx(4)
    assert estimator.tokens_per_second(30.0) == 0


def test_a_new_request_waits_for_those_before_it() -> None:
    """Each waiting request takes the slot that is free first."""
    estimator = StepTimeEstimator()
    estimator.record_step(2, 0.1)
    estimator.record_step(9, 7.0)
    running = [10, 3]  # 1 s and 0.3 s
    assert estimator.wait(3, running, []).new_request == 0
    assert estimator.wait(2, running, []).new_request == pytest.approx(0.3)
    wait = estimator.wait(2, running, [5, 9])  # until 0.8 s, then until 1.7 s
    assert wait.first_free == pytest.approx(0.3)
    assert wait.new_request == pytest.approx(1.0)
