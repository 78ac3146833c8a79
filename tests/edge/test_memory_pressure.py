"""Memory pressure (PSI), read from a fake /proc."""

from pathlib import Path

import pytest

from edgewise_edge.memory import memory_pressure

PRESSURE = (
    "some avg10=70.00 avg60=60.00 avg300=50.00 total=9000\n"
    "full avg10=12.50 avg60=6.00 avg300=5.00 total=900\n"
)


def pressure_of(tmp_path: Path, text: str) -> float | None:
    """What memory_pressure() reads from a /proc/pressure/memory with this text."""
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "memory").write_text(text)
    return memory_pressure(tmp_path)


def test_pressure_is_the_share_of_time_in_which_all_tasks_stalled(tmp_path):
    """PSI's "full" figure over 10 s."""
    assert pressure_of(tmp_path, PRESSURE) == 0.125


@pytest.mark.parametrize(
    "text",
    [
        "",
        "some avg10=70.00 avg60=60.00 avg300=50.00 total=9000\n",
        "full avg60=6.00 avg300=5.00 total=900\n",
        "full avg10=plenty avg60=6.00 avg300=5.00 total=900\n",
        "full of surprises\n",
        "full avg10=nan avg60=6.00 avg300=5.00 total=900\n",
        "full avg10=-1 avg60=6.00 avg300=5.00 total=900\n",
        "full avg10=101 avg60=6.00 avg300=5.00 total=900\n",
    ],
    ids=[
        "empty",
        "no full line",
        "no avg10",
        "not a number",
        "no pairs",
        "NaN",
        "negative",
        "above 100 %",
    ],
)
def test_unreadable_pressure_is_unknown(tmp_path, text):
    """A file without the figure gives None."""
    assert pressure_of(tmp_path, text) is None


def test_without_psi_pressure_is_unknown(tmp_path):
    """None, not zero."""
    assert memory_pressure(tmp_path) is None
