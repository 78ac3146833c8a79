"""When a router may update: each condition, and that what is unknown constrains nothing."""

from pathlib import Path
from typing import Any

import pytest

from edgewise import ConfigurationError, DeviceState, UpdatePolicy
from edgewise.delivery.conditions import Conditions, unmet
from edgewise.delivery.conditions.gather import read_conditions


@pytest.mark.parametrize(
    ("policy", "now", "reasons"),
    [
        ({"only_charging": True}, {"charging": False}, ("the device is not charging",)),
        ({"only_charging": True}, {"charging": True}, ()),
        ({}, {"battery": 0.2}, ("the battery is below 30%",)),
        ({}, {"battery": 0.2, "charging": True}, ()),
        ({}, {"metered": True}, ("the connection is metered",)),
        ({"only_unmetered": False}, {"metered": True}, ()),
        ({}, {"idle": False}, ("the router is generating",)),
        ({"only_idle": False}, {"idle": False}, ()),
        ({}, {"free_disk": 1}, ("less than 256 MiB of disk are free",)),
        ({}, {"available_memory": 1}, ("less than 64 MiB of memory are available",)),
        ({"hours": (1, 5)}, {"hour": 5.0}, ("it is not between 1:00 and 5:00",)),
        ({"hours": (1, 5)}, {"hour": 1.0}, ()),
        ({"hours": (22.5, 6)}, {"hour": 23.0}, ()),
        ({"hours": (22.5, 6)}, {"hour": 12.0}, ("it is not between 22:30 and 6:00",)),
        ({"hours": (3, 3)}, {"hour": 12.0}, ()),
        ({"only_charging": True, "hours": (1, 5), "min_battery": 1}, {}, ()),
    ],
)
def test_conditions(policy: dict[str, Any], now: dict[str, Any], reasons: tuple[str, ...]) -> None:
    """All that are not met are told."""
    assert unmet(UpdatePolicy(**policy), Conditions(**now)) == reasons


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 1}, "every is 1; it must be a number of seconds, from 60"),
        ({"every": float("nan")}, "every is nan"),
        ({"jitter": 50}, "For 50 % write 0.5"),
        ({"only_idle": 1}, "only_idle is 1; it must be True or False"),
        ({"metered": True}, "metered is True; it must be a function"),
        ({"hours": 3}, "hours is 3; it must be two hours"),
        ({"hours": (1, 25)}, "hours is 25; it must be a number of hours"),
        ({"min_free_disk": -1}, "min_free_disk is -1"),
        ({"evry": 100}, "did you mean 'every'?"),
    ],
)
def test_invalid_policies(options: dict[str, Any], words: str) -> None:
    """Each says what is wrong with which option."""
    with pytest.raises(ConfigurationError) as caught:
        UpdatePolicy(**options)
    assert words in str(caught.value)


@pytest.mark.parametrize("metered", [lambda: "yes", lambda: 1 / 0, lambda: None])
def test_a_hook_that_fails_is_unknown(metered: Any, tmp_path: Path) -> None:
    """The other conditions are read."""
    found = read_conditions(
        UpdatePolicy(metered=metered),
        tmp_path / "no" / "store",
        lambda: DeviceState(charging=True, battery=0.5),
        lambda: False,
    )
    assert (found.metered, found.charging, found.battery, found.idle) == (None, True, 0.5, False)
    assert found.free_disk is not None
    assert found.hour is not None
    assert 0 <= found.hour < 24
