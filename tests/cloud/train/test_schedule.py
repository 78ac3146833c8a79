"""How a training is divided into rounds and rows."""

import math
from dataclasses import replace

import pytest

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.train.schedule import Schedule

SCHEDULE = Schedule(steps=1050, learning_rate=1e-3)


def test_rounds_add_up_to_the_steps() -> None:
    """The last may be shorter."""
    steps = [SCHEDULE.steps_in_round(round_) for round_ in range(SCHEDULE.rounds)]
    assert sum(steps) == 1050
    assert steps == [100] * 10 + [50]


def test_the_last_quarter_reads_full_windows() -> None:
    """Rows before are shorter, and never longer than the window."""
    rows = [SCHEDULE.row_length(round_, 512) for round_ in range(SCHEDULE.rounds)]
    assert rows == [256] * 8 + [512] * 3
    assert {SCHEDULE.row_length(round_, 64) for round_ in range(SCHEDULE.rounds)} == {64}


@pytest.mark.parametrize(
    ("share", "steps", "first"),
    [(0.2, 6000, 4800), (0.3, 1050, 700), (0.01, 1000, 900), (0.99, 1000, 100), (0.5, 101, 100)],
)
def test_phases_are_whole_rounds(share: float, steps: int, first: int) -> None:
    """The nearest to the share, and at least one each."""
    schedule = replace(SCHEDULE, steps=steps, then_share=share)
    assert schedule.first_phase == first
    phases = [schedule.phase(round_) for round_ in range(schedule.rounds)]
    assert phases == sorted(phases)
    assert phases.count(0) * 100 == first


def test_without_a_second_text_there_is_one_phase() -> None:
    """Of all steps."""
    assert SCHEDULE.first_phase == 1050
    assert not any(SCHEDULE.phase(round_) for round_ in range(SCHEDULE.rounds))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"then_share": 1}, "--then-share is 1; it must be a share of the steps, between"),
        ({"then_share": 0}, "--then-share is 0; it must be a share of the steps, between"),
        ({"then_share": -0.1}, "--then-share is -0.1"),
        ({"then_share": math.nan}, "--then-share is nan"),
        ({"then_share": 0.5, "steps": 100}, "--steps is 100; two phases take more than 100"),
    ],
)
def test_phases_that_cannot_be_are_refused(changes: dict[str, float], words: str) -> None:
    """With the option's name, its value and what it may be."""
    with pytest.raises(TrainingError, match=words):
        replace(SCHEDULE, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": math.nan}, "--learning-rate is nan; it must be 0 or more"),
        ({"learning_rate": math.inf}, "--learning-rate is inf"),
        ({"learning_rate": -1}, "--learning-rate is -1"),
        ({"held_out": math.nan}, "--held-out is nan; it must be a share of the text"),
        ({"held_out": 1}, "--held-out is 1"),
    ],
)
def test_numbers_that_are_none_are_refused(changes: dict[str, float], words: str) -> None:
    """Before any text is read."""
    with pytest.raises(TrainingError, match=words):
        replace(SCHEDULE, **changes)


def test_the_learning_rate_rises_for_a_tenth_of_the_steps() -> None:
    """At most 200."""
    assert [replace(SCHEDULE, steps=steps).warmup for steps in (5, 1000, 10_000)] == [0, 100, 200]
