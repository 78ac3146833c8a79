"""The temperature, from sensors as psutil gives them."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.device.temperature import Temperature, read_temperature


def sensor(current, high=None, critical=None):
    """As psutil's."""
    return SimpleNamespace(label="", current=current, high=high, critical=critical)


def temperature_of(**sensors):
    """What is read from these sensors, each a list by the name of its driver."""
    return read_temperature(lambda: sensors)


IMPOSSIBLE = [
    127.0,
    127.9,
    128,
    255.0,
    -128.0,
    45_000,
    318.15,
    None,
    "45",
    True,
    *map(float, ("nan", "inf")),
]


@pytest.mark.parametrize("reading", IMPOSSIBLE)
def test_what_cannot_be_true_is_dropped(reading):
    """A sensor that is not connected, or one that is in another unit."""
    assert temperature_of(acpitz=[sensor(reading, 80.0, 90.0)]) is None
    assert temperature_of(acpitz=[sensor(reading), sensor(50.0)]) == Temperature(50.0)
    assert temperature_of(coretemp=[sensor(reading)], acpitz=[sensor(50.0)]) == Temperature(50.0)


@pytest.mark.parametrize(
    "processor", ["coretemp", "k10temp", "zenpower", "cpu_thermal", "cpu-0-0", "soc_thermal"]
)
def test_the_processors_sensors_come_first(processor):
    """The ones on the board may measure nothing, or a disk."""
    sensors = {"nct6775": [sensor(109.0, 80.0, 100.0)], processor: [sensor(50.0), sensor(60.0)]}
    assert temperature_of(**sensors) == Temperature(60.0)


@pytest.mark.parametrize(
    ("high", "critical", "limit"),
    [
        (None, None, 90.0),
        (80.0, 100.0, 90.0),
        (95.0, 105.0, 95.0),
        (100.0, 100.0, 90.0),  # the processor slows down to stay at 100
        (81.8, 84.8, 84.8),
        (100.0, None, 100.0),
        (70.0, None, 90.0),
        (None, 110.0, 90.0),
        (None, 70.0, 70.0),
        (0.0, 0.0, 90.0),
        (127.0, 127.0, 90.0),
        (65261.8, 84.8, 84.8),
        (float("nan"), float("nan"), 90.0),
        ("hot", "hotter", 90.0),
    ],
)
def test_a_sensors_own_limits_count(high, critical, limit):
    """Beyond 90 °C it is too hot, unless it states that it may be hotter, or must not be as hot."""
    assert temperature_of(coretemp=[sensor(60.0, high, critical)]) == Temperature(60.0, limit)


def test_the_sensor_closest_to_its_limit_counts():
    """Not the hottest one."""
    chips = [sensor(80.0, 100.0, 110.0), sensor(75.0, None, 78.0)]
    assert temperature_of(acpitz=chips) == Temperature(75.0, 78.0)


def test_without_sensors_it_is_unknown():
    """As on macOS and Windows."""
    assert temperature_of() is None
    assert temperature_of(coretemp=[]) is None


def test_of_this_machine_it_is_a_number_or_unknown():
    """Whatever sensors it has."""
    assert isinstance(read_temperature(), Temperature | None)


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text() | st.just("cpu"), st.lists(st.builds(sensor, anything, anything, anything))
    )
)
def test_any_sensors_give_a_possible_temperature_or_none(sensors):
    """Whatever they say."""
    found = read_temperature(lambda: sensors)
    assert found is None or (-50 <= found.degrees <= 125 and 50 <= found.limit <= 125)
