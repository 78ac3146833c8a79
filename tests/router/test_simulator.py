"""The simulator that compares strategies: benchmarks/simulator."""

import math
from dataclasses import asdict, replace

import pytest

from benchmarks.simulator.clock import Clock
from benchmarks.simulator.day import lived
from benchmarks.simulator.energy import RADIO_TAIL, RADIO_WATTS, Radio
from benchmarks.simulator.figures import Figures
from benchmarks.simulator.others import always_cloud, always_device, availability_only
from benchmarks.simulator.ours import ours
from benchmarks.simulator.report import table, verdict
from benchmarks.simulator.traces import END, TRACES
from benchmarks.simulator.world import Asked, Health, Link, Memory, Steps, World
from edgewise.policy.types import Source

STRATEGIES = (always_device, always_cloud, availability_only, ours)
PHONE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)

ASKED = Asked(name="0", at=10.0, private=False, prompt_tokens=40, max_tokens=30, answer_tokens=20)
CALM = World(writes=8.0)
HANGS = World(writes=8.0, health=Steps(Health.HANGS))
REFUSES = World(writes=8.0, health=Steps(Health.REFUSES))
TUNNEL = World(writes=8.0, link=Steps(Link(), [(10.3, None), (100.0, Link())]))
CRASHES = World(writes=8.0, memory=Steps(Memory.PLENTY, [(11.0, Memory.NONE)]))


def outcome(world, strategy, **changes):
    """What comes of one request on a day."""
    return lived(world, [replace(ASKED, **changes)], strategy)[1][0]


def series(count, every, **changes):
    """The same request again and again."""
    return [replace(ASKED, name=str(n), at=10.0 + n * every, **changes) for n in range(count)]


def figures(world, requests, strategy):
    """Of a day."""
    return Figures.of(*lived(world, requests, strategy))


def test_processes_run_in_the_order_of_their_times():
    """What is due earlier runs earlier, and virtual time is what was waited for."""
    clock, seen = Clock(), []

    def process(name, *waits):
        for wait in waits:
            yield wait
            seen.append((name, clock()))

    clock.start(process("late", 5.0, 1.0))
    clock.start(process("early", 2.0, 3.5), at=1.0)
    clock.run()
    assert seen == [("early", 3.0), ("late", 5.0), ("late", 6.0), ("early", 6.5)]


def test_steps_hold_until_the_next_change():
    """A value holds from its time on, and the first one before all."""
    steps = Steps("a", [(20.0, "c"), (10.0, "b")])
    assert [steps.at(time) for time in (0.0, 9.9, 10.0, 19.9, 20.0, 1e9)] == list("aabbcc")
    assert [steps.next_change(time) for time in (0.0, 10.0, 20.0)] == [10.0, 20.0, None]


@every_strategy
def test_a_seed_settles_everything(strategy):
    """The same seed gives the same figures, and another seed others."""
    first, again, other = (
        figures(day.world, day.requests[:40], strategy)
        for day in (TRACES["commute"](1), TRACES["commute"](1), TRACES["commute"](2))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_has_some_hundreds_of_requests(trace):
    """All kinds of requests are in it, and its world ends as well as it began."""
    day = TRACES[trace](0)
    assert 200 < len(day.requests) < 600
    assert 0.1 < sum(asked.private for asked in day.requests) / len(day.requests) < 0.3
    assert {asked.budgeted for asked in day.requests} == {True, False}
    assert all(asked.answer_tokens <= asked.max_tokens for asked in day.requests)
    assert len({asked.name for asked in day.requests}) == len(day.requests)
    later = END + 3600
    assert day.world.health.at(later) is Health.UP
    assert day.world.link.at(later) is not None
    assert day.world.memory.at(later) is Memory.PLENTY


@pytest.mark.parametrize("trace", TRACES)
def test_ours_leaks_nothing(trace):
    """On no trace does a private request reach the cloud, and what is not private loses nothing."""
    day = TRACES[trace](3)
    _, outcomes = lived(day.world, day.requests[:120], ours)
    assert any(outcome.asked.private for outcome in outcomes)
    assert any(outcome.computed[CLOUD] for outcome in outcomes)
    assert not any(outcome.leaked for outcome in outcomes)
    assert all(outcome.complete for outcome in outcomes if not outcome.asked.private)


@pytest.mark.parametrize(
    ("strategy", "leaks"), [(always_device, 0), (always_cloud, 1), (availability_only, 1)]
)
def test_leaks_of_the_others_are_counted(strategy, leaks):
    """What answers a private prompt in the cloud leaks it, also where the device failed first."""
    assert figures(CRASHES, [replace(ASKED, private=True)], strategy).leaks == leaks


@pytest.mark.parametrize("world", [HANGS, REFUSES])
def test_always_cloud_loses_what_a_cloud_that_is_down_was_asked(world):
    """There is no answer, and so its budget is missed, however long."""
    found = figures(world, [replace(ASKED, latency_budget=1e6)], always_cloud)
    assert (found.lost, found.kept) == (1, 0)


def test_availability_only_starts_anew_where_the_phone_fails():
    """The cloud writes the whole answer, and what the phone wrote was for nothing."""
    found = outcome(CRASHES, availability_only)
    assert found.computed[CLOUD] == ASKED.answer_tokens
    assert found.computed[PHONE] > 0
    assert (found.fallbacks, found.handoffs) == (1, 0)


def test_ours_goes_on_where_the_phone_fails():
    """The cloud writes the rest only."""
    found = outcome(CRASHES, ours)
    assert found.computed[PHONE] > 0
    assert sum(found.computed.values()) == ASKED.answer_tokens
    assert (found.fallbacks, found.handoffs) == (0, 1)


def test_ours_goes_on_where_the_network_is_gone():
    """The device writes what the cloud had not yet sent."""
    found = outcome(TUNNEL, ours, latency_budget=2.0)
    assert found.computed[CLOUD] > 0
    assert found.computed[PHONE] > 0
    assert sum(found.computed.values()) == ASKED.answer_tokens


def test_ours_leaves_a_cloud_that_is_down_alone():
    """After three failures the circuit is open, but for a try now and then."""
    world = World(writes=8.0, health=Steps(Health.REFUSES))
    found = figures(world, series(20, 6.0, first_token_budget=0.3), ours)
    assert found.fallbacks == 3
    assert found.lost == 0


def test_ours_comes_back_to_a_cloud_that_is_well_again():
    """A background look finds it, so that the next request goes there."""
    world = World(writes=8.0, health=Steps(Health.REFUSES, [(100.0, Health.UP)]))
    requests = series(40, 5.0, first_token_budget=0.3)
    _, outcomes = lived(world, requests, ours)
    after = [found for found in outcomes if found.asked.at > 115]
    assert len(after) > 10
    assert all(found.kept and found.computed[CLOUD] for found in after)


def test_ours_spares_a_low_battery():
    """Below the floor the cloud answers what is not private, and the device what is."""
    low = World(writes=8.0, battery=Steps(0.1))
    assert figures(low, [ASKED], ours).unspared == 0
    assert figures(low, [ASKED], always_device).unspared == ASKED.answer_tokens
    assert outcome(low, ours, private=True).computed[PHONE] == ASKED.answer_tokens


def test_a_phone_that_writes_several_texts_takes_turns():
    """Two texts at once take about twice as long as one."""
    alone = outcome(CALM, always_device).total
    _, both = lived(CALM, [ASKED, replace(ASKED, name="1")], always_device)
    assert both[0].total == pytest.approx(2 * alone, rel=0.2)


def test_a_phone_short_of_memory_is_slower():
    """By five times."""
    scarce = World(writes=8.0, memory=Steps(Memory.SCARCE))
    fast, slow = (outcome(world, always_device).total for world in (CALM, scarce))
    assert slow == pytest.approx(5 * fast)


def test_answers_close_to_each_other_share_the_radios_tail():
    """The radio's energy is that of the time for which it was on."""
    radio = Radio()
    radio.used(0.0, 1.0)
    radio.used(5.0, 6.0)
    assert radio.joules == pytest.approx((6.0 + RADIO_TAIL) * RADIO_WATTS)
    radio.used(100.0, 101.0)
    assert radio.joules == pytest.approx((7.0 + 2 * RADIO_TAIL) * RADIO_WATTS)


def test_the_verdict_asks_for_as_many_budgets_with_the_fewest_tokens():
    """Fewer budgets than another, more tokens than one as good, or a leak: not reached."""
    good = Figures(budgeted=10, kept=8, public=8, public_kept=7, cloud_tokens=100)
    day = {
        "worse": replace(good, public_kept=3, cloud_tokens=0),
        "as good": replace(good, cloud_tokens=500, leaks=2),
        "ours": good,
    }
    assert all(verdict(day).values())
    assert not verdict({**day, "ours": replace(good, public_kept=6)})["attains"]
    assert not verdict({**day, "ours": replace(good, cloud_tokens=501)})["fewest_tokens"]
    assert not verdict({**day, "ours": replace(good, leaks=1)})["private"]


def test_the_table_has_a_row_for_each_strategy():
    """Counts are sums over seeds, and shares are of the sums."""
    day = {
        strategy.__name__: figures(CALM, series(3, 60.0, first_token_budget=30.0), strategy)
        for strategy in STRATEGIES
    }
    rows = list(table("calm", [day, day]))
    assert [row.split(" | ")[1] for row in rows] == [s.__name__ for s in STRATEGIES]
    assert "100.0%" in rows[0]
    total = day["always_cloud"] + day["always_cloud"]
    assert asdict(total)["cloud_tokens"] == 2 * 3 * ASKED.answer_tokens
    assert not math.isnan(total.attained)
