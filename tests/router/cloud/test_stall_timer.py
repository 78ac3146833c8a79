"""StallTimer, with an event instead of a call."""

import threading
import time

from edgewise.cloud.stall_timer import StallTimer

NEVER = 600.0  # seconds


def test_stall_is_reported() -> None:
    """After the timeout without a reset."""
    reported = threading.Event()
    with StallTimer(0.01, reported.set) as timer:
        reported.wait()
        assert timer.stalled
        assert timer.waited >= 0.01


def test_leaving_the_block_stops_the_timer() -> None:
    """And its thread, without a report."""
    reported, others = threading.Event(), set(threading.enumerate())
    with StallTimer(NEVER, reported.set) as timer:
        (thread,) = set(threading.enumerate()) - others
        timer.reset()
    thread.join()
    assert not timer.stalled
    assert not reported.is_set()


def test_paused_timer_does_not_report() -> None:
    """However long the pause is, until the next reset."""
    reported, now = threading.Event(), [0.0]
    with StallTimer(0.01, reported.set, clock=lambda: now[0]) as timer:
        timer.pause()
        timer.reset()
        timer.pause()
        now[0] = 100.0
        assert not reported.wait(0.1)
        timer.reset()
        now[0] += 0.02
        reported.wait()


def test_timeout_may_be_changed() -> None:
    """It holds from the next reset on."""
    reported = threading.Event()
    with StallTimer(NEVER, reported.set) as timer:
        timer.timeout = 0.01
        timer.reset()
        reported.wait()


def test_no_thread_survives_its_block() -> None:
    """Whenever the block is left: the change is not missed by a thread that is about to wait."""
    others = set(threading.enumerate())
    for _ in range(300):
        with StallTimer(NEVER, threading.Event().set) as timer:
            timer.reset()
    for thread in set(threading.enumerate()) - others:
        thread.join()


def test_frozen_process_waits_one_more_round() -> None:
    """What came in the meantime is not read yet: the other end was not silent."""
    reported, frozen_for = threading.Event(), [0.0]
    thaws = list[float]()

    def clock() -> float:
        return time.monotonic() + frozen_for[0]

    with StallTimer(
        0.4, reported.set, lambda: thaws.append(time.monotonic()), clock=clock
    ) as timer:
        assert not reported.wait(0.2)
        frozen_for[0] = 60.0
        resumed = time.monotonic()
        assert timer.waited < 60
        reported.wait()
        assert time.monotonic() - resumed >= 0.4
        assert thaws
