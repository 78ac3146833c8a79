"""The watchdog, over an event instead of a call."""

import threading

from edgewise.cloud.stall_timer import StallTimer


def test_silence_makes_it_bite() -> None:
    """Once nobody fed it for long enough."""
    bitten = threading.Event()
    with StallTimer(0.01, bitten.set) as watchdog:
        bitten.wait()
        assert watchdog.bit


def test_whoever_is_fed_and_leaves_is_not_bitten() -> None:
    """Leaving the block ends the wait."""
    bitten = threading.Event()
    with StallTimer(60, bitten.set) as watchdog:
        watchdog.feed()
    assert not watchdog.bit
    assert not bitten.is_set()


def test_who_rests_is_not_bitten() -> None:
    """However long the rest, until it is fed again."""
    bitten = threading.Event()
    with StallTimer(0.01, bitten.set) as watchdog:
        watchdog.feed()
        watchdog.rest()
        assert not bitten.wait(0.2)
        watchdog.feed()
        bitten.wait()


def test_leaving_just_when_it_looks_is_not_missed() -> None:
    """Its thread ends, and bites nobody who has left."""
    bitten, others = threading.Event(), set(threading.enumerate())
    watchdog = StallTimer(0.2, bitten.set)

    class Left(threading.Event):
        """The block is left between the look and the next wait."""

        def clear(self) -> None:
            watchdog.__exit__()
            super().clear()

    watchdog._fed = Left()
    watchdog.__enter__()
    watchers = set(threading.enumerate()) - others
    watchdog.feed()
    for watcher in watchers:
        watcher.join()
    assert not bitten.is_set()
