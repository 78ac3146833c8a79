"""Updates in the background: when they come, what they survive, and that they stop at once."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edgewise import ChannelError, UpdateDeferred, UpdatePolicy
from edgewise.delivery.background import POLL_INTERVAL, BackgroundClock, BackgroundUpdates
from edgewise.delivery.conditions import Conditions
from edgewise.delivery.download import Clock
from edgewise.delivery.events import ModelEvent
from edgewise.delivery.progress import DownloadProgress, OnDownload
from edgewise_edge.installed.store import ModelStore

POLICY = UpdatePolicy(every=10_000, jitter=0.5)


@dataclass
class World:
    """A clock that jumps, and updates that are counted. It ends after so many waits."""

    store: ModelStore
    time: float = 1e9
    turns: int = 100
    updates: list[float] = field(default_factory=list)
    events: list[ModelEvent] = field(default_factory=list)
    conditions: Conditions = field(default_factory=Conditions)
    during: Callable[[Clock, OnDownload], object] = lambda *_: None
    every_turn: Callable[[], object] = lambda: None

    def run(self, policy: UpdatePolicy = POLICY) -> "World":
        """One process, until it has waited `turns` times."""
        waits = 0

        def wait(_: threading.Event, seconds: float) -> bool:
            nonlocal waits
            waits += 1
            self.time += seconds
            self.every_turn()
            return waits >= self.turns

        def update(clock: Clock, on_progress: OnDownload) -> None:
            self.updates.append(self.time)
            self.during(clock, on_progress)

        background = BackgroundUpdates(
            "tales",
            update,  # type: ignore[arg-type]
            self.store,
            policy,
            lambda: self.conditions,
            on_event=self.events.append,
            clock=BackgroundClock(now=lambda: self.time, wait=wait, chance=lambda: 0.5),
        )
        background._run()  # in this thread: nothing is to be waited for
        return self


@pytest.fixture
def world(store: ModelStore) -> World:
    """A thousand million seconds after the epoch."""
    return World(store)


def test_checks_come_at_their_times(world: World) -> None:
    """The first within the jitter, the others every 10,000 seconds and some jitter."""
    world.run()
    first, second = world.updates[:2]
    assert 1e9 <= first <= 1e9 + 5000
    assert second - first == pytest.approx(12_500)


def test_devices_do_not_come_at_once(tmp_path: Path) -> None:
    """Their first checks are spread over the jitter, by their random ids."""
    worlds = (World(ModelStore(tmp_path / str(number)), turns=20) for number in range(8))
    first = [world.run().updates[0] - 1e9 for world in worlds]
    assert max(first) - min(first) > 500
    assert len({round(moment) for moment in first}) > 6


def test_restarts_neither_add_checks_nor_drop_them(world: World) -> None:
    """A process that runs for minutes a day checks as often as one that runs on."""
    world.turns = 1
    for _ in range(200):
        world.run()
    assert len(world.updates) == pytest.approx((world.time - 1e9) / 12_500, abs=2)


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_a_clock_that_is_set_stops_no_checks(world: World, jump: float) -> None:
    """Back or on, by three years."""
    world.run()
    world.time, before = world.time + jump, len(world.updates)
    world.run()
    assert before < len(world.updates) < 3 * before
    assert world.updates[before] <= world.time


@pytest.mark.parametrize(
    "damage", ["", "[]", '{"at": "x"}', '{"at": NaN}', '{"at": 1e999}', "[" * 9999]
)
def test_a_damaged_note_is_replaced(world: World, damage: str) -> None:
    """It checks all the same."""
    world.run()
    (note,) = world.store.root.glob("metadata/next-check-*")
    note.write_text(damage)
    before = len(world.updates)
    world.run()
    assert len(world.updates) > before
    assert json.loads(note.read_text())["at"] > 1e9


def test_unmet_conditions_defer_the_check(world: World) -> None:
    """They are read again soon, and told once."""
    world.conditions = Conditions(metered=True)
    world.run()
    assert not world.updates
    (deferred,) = world.events
    assert isinstance(deferred, UpdateDeferred)
    assert deferred.reasons == ("the connection is metered",)
    world.conditions = Conditions(metered=False)
    world.turns = 2
    before = world.time
    world.run()
    assert world.updates[0] <= before + POLL_INTERVAL


def test_failures_are_logged_once_and_tried_again_later(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """After an hour, then two: no more often than checks."""

    def fail(*_: object) -> None:
        raise ChannelError("the channel cannot be trusted")

    world.during = fail
    world.run()
    gaps = [b - a for a, b in zip(world.updates, world.updates[1:], strict=False)]
    assert gaps[:3] == pytest.approx([4500, 9000, 12_500])
    assert len([line for line in caplog.messages if "cannot be trusted" in line]) == 1


def test_errors_that_nobody_expected_end_nothing(world: World) -> None:
    """Nor does a store that cannot be written to."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    world.during = fail
    world.run()
    assert len(world.updates) > 3
    world.store.root.joinpath("metadata").rename(world.store.root / "elsewhere")
    world.store.root.joinpath("metadata").write_text("no folder")
    before = len(world.updates)
    world.run()
    assert len(world.updates) >= before


@pytest.mark.parametrize("where", ["a byte", "a wait"])
def test_closing_ends_an_update(store: ModelStore, where: str) -> None:
    """At its next byte, or while it waits to try again."""
    began = threading.Event()

    def update(clock: Clock, on_progress: OnDownload) -> None:
        began.set()
        while True:
            if where == "a wait":
                clock.sleep(60)
            on_progress(DownloadProgress(revision="r1", done=1, total=2, resumed=0))

    background = BackgroundUpdates(
        "tales",
        update,  # type: ignore[arg-type]
        store,
        UpdatePolicy(every=60, jitter=0),
        Conditions,
    )
    background.start()
    assert began.wait(60)
    background.close()
    background._thread.join(60)
    assert not background._thread.is_alive()
