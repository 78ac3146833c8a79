"""Readings of the system: what cannot be read is unknown, and said once."""

import logging

import pytest

from edgewise_edge.checks import Range
from edgewise_edge.readings import reading


def failing(error):
    """A reader that raises it."""

    def read():
        raise error

    return read


@pytest.mark.parametrize(
    "error", [KeyError("x"), AttributeError(), TypeError(), OSError(5, "x"), RecursionError()]
)
def test_a_reader_that_raises_gives_unknown(error):
    """Whatever it raises."""
    assert reading("the weather", failing(error)) is None


def test_a_failure_is_logged_once(caplog):
    """A device is read every second; another kind of failure is logged too."""
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            reading("the tide", failing(KeyError("MemTotal")))
            reading("the tide", failing(TypeError("no")))
            reading("the tide", lambda: 12, Range(0, 1))
    assert [record.getMessage() for record in caplog.records] == [
        "the tide cannot be read and counts as unknown: KeyError('MemTotal')",
        "the tide cannot be read and counts as unknown: TypeError('no')",
        "the tide cannot be read and counts as unknown: 12 is not from 0 to 1",
    ]


def test_unknown_is_not_logged(caplog):
    """Most machines lack some sensor."""
    assert reading("the wind", lambda: None, Range(0, 1)) is None
    assert not caplog.records


def test_an_interrupt_is_not_swallowed():
    """The user ends the program."""
    with pytest.raises(KeyboardInterrupt):
        reading("the rain", failing(KeyboardInterrupt()))
