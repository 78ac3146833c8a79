"""What is expected of work to come, from work done."""

import pytest

from edgewise_cloud.serving.pace import Pace, Work


def test_nothing_known_is_no_time_at_all() -> None:
    """Nobody is refused for what was never measured."""
    pace = Pace()
    assert pace.step(3) == 0
    assert pace.waits(1, [Work(1, 9)], []).new == 0


def test_a_step_takes_what_it_took_for_as_many_texts() -> None:
    """The nearest number that is known; what is new counts a tenth."""
    pace = Pace()
    pace.stepped(1, 0.02)
    pace.stepped(16, 0.04)
    pace.stepped(16, 0.05)
    assert pace.step(2) == pytest.approx(0.02)
    assert pace.step(16) == pace.step(12) == pytest.approx(0.041)


def test_tokens_are_counted_over_five_seconds() -> None:
    """Older ones are forgotten."""
    pace = Pace()
    for moment, tokens in ((0.0, 100), (7.0, 10), (9.0, 20)):
        pace.made(moment, tokens)
    assert pace.tokens_per_second(10.0) == pytest.approx(6)
    assert pace.tokens_per_second(13.0) == pytest.approx(4)
    assert pace.tokens_per_second(30.0) == 0


def test_whoever_comes_waits_for_those_before() -> None:
    """Each of those that wait takes the slot that is free first."""
    pace = Pace()
    pace.stepped(2, 0.1)
    running = [Work(0, 10), Work(1, 2)]  # 1 s and 0.3 s
    assert pace.waits(3, running, []).new == 0
    assert pace.waits(2, running, []).new == pytest.approx(0.3)
    waits = pace.waits(2, running, [Work(0, 5), Work(0, 9)])  # until 0.8 s, then until 1.7 s
    assert waits.first_free == pytest.approx(0.3)
    assert waits.new == pytest.approx(1.0)
