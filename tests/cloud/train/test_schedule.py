"""How a training is divided into rounds and rows."""

from dataclasses import replace

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


def test_the_learning_rate_rises_for_a_tenth_of_the_steps() -> None:
    """At most 200."""
    assert [replace(SCHEDULE, steps=steps).warmup for steps in (5, 1000, 10_000)] == [0, 100, 200]
