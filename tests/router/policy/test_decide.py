"""decide(): budgets, and what happens if both sources have a veto."""

import pytest

from edgewise.policy.types import (
    Decision,
    Mode,
    NoSource,
    PredictedTime,
    Privacy,
    Reason,
    Source,
    Veto,
    VetoCode,
)
from tests.router.policy.situations import (
    CLOUD_VETOES,
    HARD_CLOUD_VETOES,
    HARD_DEVICE_VETOES,
    IN_CLOUD,
    ON_DEVICE,
    SOFT_CLOUD_VETOES,
    SOFT_DEVICE_VETOES,
    Situation,
    abandoned,
    decided,
    outcome,
    veto_codes,
)

# Budgets.

FASTER, FAST, SLOW, SLOWER = (PredictedTime(first, first * 10) for first in (0.01, 0.1, 1.0, 2.0))
UNKNOWN = PredictedTime()
either_budget = pytest.mark.parametrize(
    "budget", [{"latency_budget": 2.0}, {"first_token_budget": 0.2}]
)
either_preference = pytest.mark.parametrize(
    "preferred", [Mode.PREFER_ON_DEVICE, Mode.PREFER_IN_CLOUD]
)


def budgeted(budget, preferred, *, edge, cloud):
    """What is decided under a budget, given the predicted time on each source."""
    return decided(
        request={"mode": preferred} | budget, edge={"predicted": edge}, cloud={"predicted": cloud}
    )


@either_budget
@pytest.mark.parametrize(
    ("preferred", "edge", "cloud", "source"),
    [
        (Mode.PREFER_ON_DEVICE, FAST, FASTER, ON_DEVICE),
        (Mode.PREFER_ON_DEVICE, FAST, SLOW, ON_DEVICE),
        (Mode.PREFER_ON_DEVICE, UNKNOWN, FAST, ON_DEVICE),
        (Mode.PREFER_IN_CLOUD, FASTER, FAST, IN_CLOUD),
        (Mode.PREFER_IN_CLOUD, SLOW, FAST, IN_CLOUD),
        (Mode.PREFER_IN_CLOUD, FAST, UNKNOWN, IN_CLOUD),
    ],
)
def test_preferred_source_within_budget_answers(budget, preferred, edge, cloud, source):
    """A preferred source that fits, or is unmeasured, answers however fast the other one is."""
    assert budgeted(budget, preferred, edge=edge, cloud=cloud) == (source, Reason.PREFERRED)


@either_budget
@pytest.mark.parametrize(
    ("preferred", "edge", "cloud", "source"),
    [
        (Mode.PREFER_ON_DEVICE, SLOW, FAST, IN_CLOUD),
        (Mode.PREFER_ON_DEVICE, SLOW, UNKNOWN, IN_CLOUD),
        (Mode.PREFER_IN_CLOUD, FAST, SLOW, ON_DEVICE),
        (Mode.PREFER_IN_CLOUD, UNKNOWN, SLOW, ON_DEVICE),
    ],
)
def test_late_preferred_source_gives_way(budget, preferred, edge, cloud, source):
    """If the preferred source is late, one that fits, or is unmeasured, answers."""
    assert budgeted(budget, preferred, edge=edge, cloud=cloud) == (source, Reason.BUDGET)


@either_budget
@either_preference
@pytest.mark.parametrize(
    ("edge", "cloud", "source"),
    [
        (SLOWER, SLOW, IN_CLOUD),
        (SLOW, SLOWER, ON_DEVICE),
        (SLOW, SLOW, ON_DEVICE),  # a tie
    ],
)
def test_if_both_are_late_the_faster_answers(budget, preferred, edge, cloud, source):
    """If neither source fits, the faster one answers whatever is preferred; ties go to the device."""
    assert budgeted(budget, preferred, edge=edge, cloud=cloud) == (source, Reason.BUDGET_MISSED)


@pytest.mark.parametrize(
    ("changes", "source"),
    [
        ({"cloud": {"address": None}}, ON_DEVICE),
        ({"request": {"mode": Mode.PREFER_IN_CLOUD}, "device": {"battery": 0.1}}, IN_CLOUD),
        ({"request": {"privacy": Privacy.PRIVATE}}, ON_DEVICE),
        ({"request": {"mode": Mode.ONLY_IN_CLOUD}}, IN_CLOUD),
    ],
)
def test_budget_never_overrides_a_veto(changes, source):
    """The only source without a veto answers even if late, and the reason says so."""
    late = Situation().but(
        {"edge": {"predicted": SLOW}, "cloud": {"predicted": SLOW}}
        | {"request": {"latency_budget": 1.0}}
    )
    decision = late.but(changes).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (source, Reason.BUDGET_MISSED)


@pytest.mark.parametrize("budget", [{"latency_budget": 10.0}, {"first_token_budget": 1.0}])
def test_predicted_time_equal_to_the_budget_fits(budget):
    """If the other source does no better."""
    assert budgeted(budget, Mode.PREFER_ON_DEVICE, edge=SLOW, cloud=SLOW) == (
        ON_DEVICE,
        Reason.PREFERRED,
    )


@either_preference
@pytest.mark.parametrize(
    ("preferred_total", "other_total", "moves"),
    [
        (1.0, 0.1, False),  # a comfortable fit
        (1.9, 0.1, True),
        (1.9, 1.6, True),
        (1.9, 1.7, False),  # both are tight
        (1.6, 0.1, False),
        (1.7, 0.1, True),
    ],
)
def test_tight_fit_gives_way_to_a_comfortable_one(preferred, preferred_total, other_total, moves):
    """Predictions err: the source with a margin of a quarter answers if only one has it."""
    here, there = PredictedTime(total=preferred_total), PredictedTime(total=other_total)
    on_device = preferred is Mode.PREFER_ON_DEVICE
    edge, cloud = (here, there) if on_device else (there, here)
    source, reason = budgeted({"latency_budget": 2.0}, preferred, edge=edge, cloud=cloud)
    assert (source is ON_DEVICE) is (on_device is not moves)
    assert reason is (Reason.BUDGET if moves else Reason.PREFERRED)


@pytest.mark.parametrize(
    "changes", [{"cloud": {"address": None}}, {"request": {"privacy": Privacy.PRIVATE}}]
)
def test_tight_fit_stays_if_the_other_source_is_vetoed(changes):
    """However large the other's margin is."""
    narrow = Situation().but(
        {
            "request": {"latency_budget": 2.0},
            "edge": {"predicted": PredictedTime(total=1.9)},
            "cloud": {"predicted": PredictedTime(total=0.1)},
        }
    )
    decision = narrow.but(changes).decide()
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.PREFERRED)


@pytest.mark.parametrize(
    "budget",
    [
        {"latency_budget": 2.0, "first_token_budget": 99.0},
        {"latency_budget": 99.0, "first_token_budget": 0.2},
    ],
)
def test_both_budgets_must_be_kept(budget):
    """A source that keeps one of two budgets does not fit."""
    assert budgeted(budget, Mode.PREFER_ON_DEVICE, edge=SLOW, cloud=FAST) == (
        IN_CLOUD,
        Reason.BUDGET,
    )


def test_without_a_budget_time_is_ignored():
    """The preferred source answers, however slow."""
    assert budgeted({}, Mode.PREFER_ON_DEVICE, edge=SLOWER, cloud=FAST) == (
        ON_DEVICE,
        Reason.PREFERRED,
    )


def test_decision_has_both_predicted_times():
    """As they were given."""
    decision = outcome(edge={"predicted": SLOW}, cloud={"predicted": FAST})
    assert isinstance(decision, Decision)
    assert decision.predicted == {ON_DEVICE: SLOW, IN_CLOUD: FAST}


# Both sources have a veto.


def with_both(changes, others):
    """The situation with both changes, in which the abandoned sources add up."""
    one, other = Situation().but(changes), Situation().but(others)
    merged = {**one.request.abandoned, **other.request.abandoned}
    return Situation().but(changes).but(others).but({"request": {"abandoned": merged}})


@pytest.mark.parametrize(("code", "changes"), SOFT_DEVICE_VETOES)
@pytest.mark.parametrize(("clouds_code", "clouds"), CLOUD_VETOES)
def test_soft_veto_of_the_device_gives_way_if_the_cloud_cannot_answer(
    code, changes, clouds_code, clouds
):
    """With low power, say, the device still answers; the decision has both vetoes."""
    decision = with_both(changes, clouds).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)
    assert veto_codes(decision) == {ON_DEVICE: code, IN_CLOUD: clouds_code}


def test_full_queue_gives_way_if_a_request_may_wait_and_the_cloud_cannot_answer():
    """The device makes it wait for `queue_timeout`; a cloud that may answer is asked instead."""
    changes = {"edge": {"queue_length": 8}, "limits": {"queue_timeout": 1}}
    decision = outcome(cloud={"address": None}, **changes)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)
    assert decision.vetoes[ON_DEVICE].code is VetoCode.QUEUE_FULL
    assert outcome(**changes).source is IN_CLOUD


@pytest.mark.parametrize(("code", "changes"), SOFT_CLOUD_VETOES)
@pytest.mark.parametrize(("devices_code", "devices"), HARD_DEVICE_VETOES)
def test_generation_returns_to_a_cloud_it_left_for_a_soft_reason(
    code, changes, devices_code, devices
):
    """If the device may not answer, a cloud that was slow does; the decision has both vetoes."""
    decision = with_both(changes, devices).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (IN_CLOUD, Reason.LAST_RESORT)
    assert veto_codes(decision) == {ON_DEVICE: devices_code, IN_CLOUD: code}


@pytest.mark.parametrize(("code", "changes"), HARD_CLOUD_VETOES)
def test_hard_veto_of_the_cloud_outweighs_the_soft_one_it_was_left_for(code, changes):
    """A current hard veto counts, however mild the reason for leaving the cloud was."""
    vetoes = {IN_CLOUD: Veto(VetoCode.STALLED, "it stalled", soft=True)}
    vetoes |= changes.get("request", {}).get("abandoned", {})
    crashed = {ON_DEVICE: Veto(VetoCode.FAILED, "it crashed")}
    refused = Situation().but(changes).but({"request": {"abandoned": vetoes | crashed}}).decide()
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.FAILED, IN_CLOUD: code}


def test_last_resort_ignores_the_budget():
    """The reason says why it answers at all, not that it is late."""
    assert decided(
        request={"offline": True, "latency_budget": 1.0},
        device={"battery": 0.1},
        edge={"predicted": SLOW},
    ) == (ON_DEVICE, Reason.LAST_RESORT)


@pytest.mark.parametrize(("code", "changes"), HARD_DEVICE_VETOES)
def test_hard_vetoes_of_the_device_do_not_give_way(code, changes):
    """If neither source may answer, there is no decision but both vetoes."""
    refused = outcome(**changes, cloud={"address": None})
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: code, IN_CLOUD: VetoCode.NO_ADDRESS}


def test_low_battery_does_not_hide_a_hard_veto():
    """Too little memory stops the device even if its low battery would have given way."""
    refused = outcome(
        device={"available_memory": 0, "battery": 0.1},
        edge={"memory_needed": 1000},
        cloud={"address": None},
    )
    assert isinstance(refused, NoSource)
    assert refused.vetoes[ON_DEVICE].code is VetoCode.MEMORY


def test_private_request_for_the_cloud_only_has_no_source():
    """It must not leave the device and must not be answered there."""
    refused = outcome(request={"mode": Mode.ONLY_IN_CLOUD, "privacy": Privacy.PRIVATE})
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.MODE, IN_CLOUD: VetoCode.PRIVATE}


def test_both_sources_failed():
    """If both sources have failed, there is no third try."""
    refused = outcome(
        request={"abandoned": abandoned(ON_DEVICE)["abandoned"] | abandoned(IN_CLOUD)["abandoned"]}
    )
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.FAILED, IN_CLOUD: VetoCode.FAILED}


def test_only_the_missed_budget_is_compared():
    """A cloud that is late by less for the first token wins, however long the rest takes."""
    assert decided(
        request={"first_token_budget": 0.1},
        edge={"predicted": PredictedTime(5.0, 10.0)},
        cloud={"predicted": PredictedTime(0.2, 11.0)},
    ) == (Source.IN_CLOUD, Reason.BUDGET_MISSED)


# An answer that may be cut short.

CUT_SHORT = {"edge": {"context_window": 29}}  # of 10 prompt tokens and 20 new ones


def test_answer_that_may_be_cut_short_goes_to_a_cloud_with_room():
    """The cloud answers in full what the device would have to cut."""
    decision = outcome(**CUT_SHORT)
    assert (decision.source, decision.reason) == (IN_CLOUD, Reason.OTHER_VETOED)
    assert decision.vetoes[ON_DEVICE].code is VetoCode.CONTEXT_WINDOW


def test_answer_cut_short_is_better_than_none():
    """Without a cloud the device answers as far as its window reaches."""
    decision = outcome(**CUT_SHORT, cloud={"address": None})
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)


def test_answer_that_may_be_cut_short_does_not_hide_a_hard_veto():
    """A device whose queue is full does not answer at all."""
    edge = CUT_SHORT["edge"] | {"queue_length": 8}
    refused = outcome(**CUT_SHORT | {"edge": edge}, cloud={"address": None})
    assert veto_codes(refused)[ON_DEVICE] is VetoCode.QUEUE_FULL


@pytest.mark.parametrize("window", [29, 10, 5])
def test_sliding_window_is_never_too_small(window):
    """Prompt and answer may be longer than the window."""
    decision = outcome(request={"sliding_window": True}, edge={"context_window": window})
    assert decision.vetoes == {}
