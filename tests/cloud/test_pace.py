"""What is expected of work to come, from work done."""

import pytest

from edgewise_cloud.serving.engine.step_time import Pace


def test_nothing_known_is_no_time_at_all() -> None:
    """Nobody is refused for what was never measured."""
    pace = Pace()
    assert pace.step(3) == 0
    assert pace.waits(1, [10], []).new == 0


def test_a_step_takes_what_it_took_for_as_many_texts() -> None:
    """The nearest number that is known; a machine that stood still once is not slow."""
    pace = Pace()
    pace.stepped(1, 0.02)
    for seconds in (0.04, 0.05, 5.0, 0.06, 0.05):
        pace.stepped(16, seconds)
    assert pace.step(2) == 0.02
    assert pace.step(16) == pace.step(12) == 0.05


def test_what_a_step_took_long_ago_is_forgotten() -> None:
    """Nine steps tell."""
    pace = Pace()
    for seconds in (*[1.0] * 20, *[0.1] * 5):
        pace.stepped(1, seconds)
    assert pace.step(1) == 0.1


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
    pace.stepped(9, 7.0)
    running = [10, 3]  # 1 s and 0.3 s
    assert pace.waits(3, running, []).new == 0
    assert pace.waits(2, running, []).new == pytest.approx(0.3)
    waits = pace.waits(2, running, [5, 9])  # until 0.8 s, then until 1.7 s
    assert waits.first_free == pytest.approx(0.3)
    assert waits.new == pytest.approx(1.0)
