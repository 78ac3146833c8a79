"""The simulator that compares routing policies: benchmarks.simulator."""

from collections import Counter
from dataclasses import replace

import pytest

from benchmarks.simulator import (
    END,
    HEAD,
    POLICIES,
    RADIO_TAIL,
    RADIO_WATTS,
    TRACES,
    Clock,
    Health,
    Link,
    Memory,
    Radio,
    Request,
    Steps,
    World,
    make_trace,
    measure,
    simulate,
    table,
    totals,
    verdict,
)
from edgewise import Source

DEVICE, CLOUD = Source.ON_DEVICE, Source.IN_CLOUD

REQUEST = Request(
    name="0", at=10.0, private=False, prompt_tokens=40, max_tokens=30, answer_tokens=20
)
CALM = World(speed=8.0)
HANGS = World(speed=8.0, health=Steps(Health.HANGS))
REFUSES = World(speed=8.0, health=Steps(Health.REFUSES))
TUNNEL = World(speed=8.0, link=Steps(Link(), [(10.3, None), (100.0, Link())]))
CRASHES = World(speed=8.0, memory=Steps(Memory.PLENTY, [(11.0, Memory.NONE)]))


def outcome(world, policy, **changes):
    """The outcome of one request on a day."""
    return outcomes_of(world, [replace(REQUEST, **changes)], policy)[0]


def outcomes_of(world, requests, policy):
    """The outcomes of a day."""
    return simulate(world, requests, POLICIES[policy])[1]


def series(count, every, **changes):
    """The same request again and again."""
    return [replace(REQUEST, name=str(n), at=10.0 + n * every, **changes) for n in range(count)]


def metrics(world, requests, policy):
    """The metrics of a day."""
    return measure(*simulate(world, requests, POLICIES[policy]))


def test_processes_run_in_the_order_of_their_times():
    """What is due earlier runs earlier, and virtual time adds up the waits."""
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
    """A value holds from its time on, and the first one before that."""
    steps = Steps("a", [(20.0, "c"), (10.0, "b")])
    assert [steps.at(time) for time in (0.0, 9.9, 10.0, 19.9, 20.0, 1e9)] == list("aabbcc")
    assert [steps.next_change(time) for time in (0.0, 10.0, 20.0)] == [10.0, 20.0, None]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_seed_gives_the_same_figures(policy):
    """And another seed others."""
    first, again, other = (
        metrics(day.world, day.requests[:40], policy)
        for day in (make_trace("commute", seed) for seed in (1, 1, 2))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("trace", TRACES)
def test_a_trace_has_some_hundreds_of_requests(trace):
    """It has all kinds of requests, and its world ends healthy."""
    day = make_trace(trace, 0)
    assert 200 < len(day.requests) < 600
    assert 0.1 < sum(request.private for request in day.requests) / len(day.requests) < 0.3
    assert {request.budgeted for request in day.requests} == {True, False}
    assert all(request.answer_tokens <= request.max_tokens for request in day.requests)
    assert len({request.name for request in day.requests}) == len(day.requests)
    later = END + 3600
    assert day.world.health.at(later) is Health.UP
    assert day.world.link.at(later) is not None
    assert day.world.memory.at(later) is Memory.PLENTY


@pytest.mark.parametrize("trace", TRACES)
def test_edgewise_leaks_nothing(trace):
    """A private request never reaches the cloud, and every public one is answered."""
    day = make_trace(trace, 3)
    outcomes = outcomes_of(day.world, day.requests[:120], "edgewise")
    assert any(outcome.request.private for outcome in outcomes)
    assert any(outcome.computed[CLOUD] for outcome in outcomes)
    assert not any(outcome.leaked for outcome in outcomes)
    assert all(outcome.complete for outcome in outcomes if not outcome.request.private)


@pytest.mark.parametrize(
    ("policy", "leaks"), [("always_device", 0), ("always_cloud", 1), ("availability_only", 1)]
)
def test_leaks_of_other_policies_are_counted(policy, leaks):
    """A private prompt answered in the cloud is a leak, also after the device failed."""
    assert metrics(CRASHES, [replace(REQUEST, private=True)], policy)["leaks"] == leaks


@pytest.mark.parametrize("world", [HANGS, REFUSES])
def test_always_cloud_loses_requests_while_the_cloud_is_down(world):
    """A request without an answer misses its budget, however long."""
    found = metrics(world, [replace(REQUEST, latency_budget=1e6)], "always_cloud")
    assert (found["lost"], found["met"]) == (1, 0)


def test_availability_only_starts_again_when_the_device_fails():
    """The cloud generates the whole answer; the device's tokens are lost."""
    found = outcome(CRASHES, "availability_only")
    assert found.computed[CLOUD] == REQUEST.answer_tokens
    assert found.computed[DEVICE] > 0
    assert (found.fallbacks, found.handoffs) == (1, 0)


def test_edgewise_continues_when_the_device_fails():
    """The cloud generates only the rest."""
    found = outcome(CRASHES, "edgewise")
    assert found.computed[DEVICE] > 0
    assert sum(found.computed.values()) == REQUEST.answer_tokens
    assert (found.fallbacks, found.handoffs) == (0, 1)


def test_edgewise_continues_when_the_network_is_gone():
    """The device generates what the cloud had not yet sent."""
    found = outcome(TUNNEL, "edgewise", latency_budget=2.0)
    assert found.computed[CLOUD] > 0
    assert found.computed[DEVICE] > 0
    assert sum(found.computed.values()) == REQUEST.answer_tokens


def test_edgewise_stops_asking_a_cloud_that_is_down():
    """After three failures the circuit is open."""
    world = World(speed=8.0, health=Steps(Health.REFUSES))
    found = metrics(world, series(20, 6.0, first_token_budget=0.3), "edgewise")
    assert found["fallbacks"] == 3
    assert found["lost"] == 0


def test_edgewise_returns_to_a_cloud_that_recovered():
    """A health probe finds it, so the next request goes there."""
    world = World(speed=8.0, health=Steps(Health.REFUSES, [(100.0, Health.UP)]))
    requests = series(40, 5.0, first_token_budget=0.3)
    outcomes = outcomes_of(world, requests, "edgewise")
    after = [found for found in outcomes if found.request.at > 115]
    assert len(after) > 10
    assert all(found.met and found.computed[CLOUD] for found in after)


def test_edgewise_spares_a_low_battery():
    """Below the floor the cloud answers public requests, and the device private ones."""
    low = World(speed=8.0, battery=Steps(0.1))
    assert metrics(low, [REQUEST], "edgewise")["low_battery_tokens"] == 0
    assert metrics(low, [REQUEST], "always_device")["low_battery_tokens"] == REQUEST.answer_tokens
    assert outcome(low, "edgewise", private=True).computed[DEVICE] == REQUEST.answer_tokens


def test_concurrent_generations_on_the_device_take_turns():
    """Two at once take about twice as long as one."""
    alone = outcome(CALM, "always_device").total
    both = outcomes_of(CALM, [REQUEST, replace(REQUEST, name="1")], "always_device")
    assert both[0].total == pytest.approx(2 * alone, rel=0.2)


def test_a_device_short_of_memory_is_slower():
    """By five times."""
    scarce = World(speed=8.0, memory=Steps(Memory.SCARCE))
    fast, slow = (outcome(world, "always_device").total for world in (CALM, scarce))
    assert slow == pytest.approx(5 * fast)


def test_answers_close_to_each_other_share_the_radios_tail():
    """The radio costs energy for as long as it is on."""
    radio = Radio()
    radio.used(0.0, 1.0)
    radio.used(5.0, 6.0)
    assert radio.joules == pytest.approx((6.0 + RADIO_TAIL) * RADIO_WATTS)
    radio.used(100.0, 101.0)
    assert radio.joules == pytest.approx((7.0 + 2 * RADIO_TAIL) * RADIO_WATTS)


def test_the_verdict_asks_for_as_many_budgets_with_the_fewest_tokens():
    """Fewer budgets than another policy, more tokens than one as good, or a leak: missed."""
    good = Counter(public=8, public_met=7, cloud_tokens=100)
    worse, as_good = {"public_met": 3}, {"public_met": 7, "cloud_tokens": 500, "leaks": 2}
    day = {"worse": Counter(worse), "as good": Counter(as_good)}
    assert all(verdict({**day, "edgewise": good}).values())
    for changes, missed in (
        ({"public_met": 6}, "attains"),
        ({"cloud_tokens": 501}, "fewest_tokens"),
        ({"leaks": 1}, "private"),
    ):
        assert not verdict({**day, "edgewise": Counter({**good, **changes})})[missed]


def test_the_table_has_a_row_for_each_policy():
    """Counts are sums over seeds, and shares are of the sums."""
    day = {
        policy: metrics(CALM, series(3, 60.0, first_token_budget=30.0), policy)
        for policy in POLICIES
    }
    rows = table("calm", [day, day])
    assert [row[1] for row in rows] == list(POLICIES)
    assert all(len(row) == len(HEAD) for row in rows)
    assert rows[0][2] == "100.0%"
    total = totals([day, day])["always_cloud"]
    assert total["cloud_tokens"] == 2 * 3 * REQUEST.answer_tokens
