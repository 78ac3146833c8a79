"""The watchdog, over an event instead of a call."""

import threading

from edgewise.watchdog import Watchdog


def test_silence_makes_it_bite() -> None:
    """Once nobody fed it for long enough."""
    bitten = threading.Event()
    with Watchdog(0.01, bitten.set) as watchdog:
        bitten.wait()
        assert watchdog.bit


def test_whoever_is_fed_and_leaves_is_not_bitten() -> None:
    """Leaving the block ends the wait."""
    bitten = threading.Event()
    with Watchdog(60, bitten.set) as watchdog:
        watchdog.feed()
    assert not watchdog.bit
    assert not bitten.is_set()
