"""decide(): budgets, and what happens when no side is left."""

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
from tests.router.situations import (
    CLOUD_VETOES,
    IN_CLOUD,
    LASTING_CLOUD_VETOES,
    LASTING_DEVICE_VETOES,
    ON_DEVICE,
    YIELDING_CLOUD_VETOES,
    YIELDING_DEVICE_VETOES,
    Situation,
    decided,
    left,
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
    """What is decided under a budget, given the predicted time on each side."""
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
def test_a_preferred_side_within_its_budget_answers(budget, preferred, edge, cloud, source):
    """A preferred side that fits, or was never measured, answers however fast the other is."""
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
def test_a_late_preferred_side_makes_way(budget, preferred, edge, cloud, source):
    """Where the preferred side is late, one that fits, or was never measured, answers."""
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
def test_where_both_are_late_the_faster_answers(budget, preferred, edge, cloud, source):
    """Where no side fits, the faster one answers whatever is preferred; ties go to the device."""
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
def test_the_only_side_left_answers_late_rather_than_not(changes, source):
    """A budget never overrides a veto: a side alone answers, and the reason says it is late."""
    late = Situation().but(
        {"edge": {"predicted": SLOW}, "cloud": {"predicted": SLOW}}
        | {"request": {"latency_budget": 1.0}}
    )
    decision = late.but(changes).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (source, Reason.BUDGET_MISSED)


@pytest.mark.parametrize("budget", [{"latency_budget": 10.0}, {"first_token_budget": 1.0}])
def test_a_budget_met_exactly_is_met(budget):
    """A predicted time equal to the budget fits, where the other side does no better."""
    assert budgeted(budget, Mode.PREFER_ON_DEVICE, edge=SLOW, cloud=SLOW) == (
        ON_DEVICE,
        Reason.PREFERRED,
    )


@either_preference
@pytest.mark.parametrize(
    ("preferred_total", "other_total", "moves"),
    [
        (1.0, 0.1, False),  # enough to spare
        (1.9, 0.1, True),
        (1.9, 1.6, True),
        (1.9, 1.7, False),  # no more to spare than here
        (1.6, 0.1, False),
        (1.7, 0.1, True),
    ],
)
def test_a_narrow_fit_makes_way_for_an_ample_one(preferred, preferred_total, other_total, moves):
    """Predictions err: where the other side has a quarter to spare, and this has not, it goes."""
    here, there = PredictedTime(total=preferred_total), PredictedTime(total=other_total)
    on_device = preferred is Mode.PREFER_ON_DEVICE
    edge, cloud = (here, there) if on_device else (there, here)
    source, reason = budgeted({"latency_budget": 2.0}, preferred, edge=edge, cloud=cloud)
    assert (source is ON_DEVICE) is (on_device is not moves)
    assert reason is (Reason.BUDGET if moves else Reason.PREFERRED)


@pytest.mark.parametrize(
    "changes", [{"cloud": {"address": None}}, {"request": {"privacy": Privacy.PRIVATE}}]
)
def test_a_narrow_fit_stays_where_the_other_side_may_not_answer(changes):
    """However much the other has to spare: a budget never overrides a veto."""
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
    """A side that keeps one of two budgets does not fit."""
    assert budgeted(budget, Mode.PREFER_ON_DEVICE, edge=SLOW, cloud=FAST) == (
        IN_CLOUD,
        Reason.BUDGET,
    )


def test_without_a_budget_time_does_not_matter():
    """With no budget the preferred side answers, however slow."""
    assert budgeted({}, Mode.PREFER_ON_DEVICE, edge=SLOWER, cloud=FAST) == (
        ON_DEVICE,
        Reason.PREFERRED,
    )


def test_the_decision_tells_both_predicted_times():
    """A decision carries the predicted time on each side, as it was given."""
    decision = outcome(edge={"predicted": SLOW}, cloud={"predicted": FAST})
    assert isinstance(decision, Decision)
    assert decision.predicted == {ON_DEVICE: SLOW, IN_CLOUD: FAST}


# No side left.


def both(changes, others):
    """The situation with both, where what a text has left adds up."""
    gone = changes.get("request", {}).get("abandoned", {}) | others.get("request", {}).get(
        "abandoned", {}
    )
    situation = Situation().but(changes).but(others)
    return situation.but({"request": {"abandoned": gone}})


@pytest.mark.parametrize(("code", "changes"), YIELDING_DEVICE_VETOES)
@pytest.mark.parametrize(("clouds_code", "clouds"), CLOUD_VETOES)
def test_where_the_cloud_cannot_answer_some_vetoes_of_the_device_yield(
    code, changes, clouds_code, clouds
):
    """Low on power, say, the device still answers what nobody else can; both vetoes are told."""
    decision = both(changes, clouds).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)
    assert veto_codes(decision) == {ON_DEVICE: code, IN_CLOUD: clouds_code}


@pytest.mark.parametrize(("code", "changes"), YIELDING_CLOUD_VETOES)
@pytest.mark.parametrize(("devices_code", "devices"), LASTING_DEVICE_VETOES)
def test_a_text_returns_to_the_cloud_that_it_left_for_the_better(
    code, changes, devices_code, devices
):
    """Where the device may not answer, a cloud that was slow does, and both vetoes are told."""
    decision = both(changes, devices).decide()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (IN_CLOUD, Reason.LAST_RESORT)
    assert veto_codes(decision) == {ON_DEVICE: devices_code, IN_CLOUD: code}


@pytest.mark.parametrize(("code", "changes"), LASTING_CLOUD_VETOES)
def test_a_veto_of_the_cloud_outlasts_its_having_been_left_for_the_better(code, changes):
    """What speaks against the cloud now counts, however mild the reason why it was left."""
    gone = {IN_CLOUD: Veto(VetoCode.STALLED, "it fell silent", soft=True)}
    gone |= changes.get("request", {}).get("abandoned", {})
    crashed = {ON_DEVICE: Veto(VetoCode.FAILED, "it crashed")}
    refused = Situation().but(changes).but({"request": {"abandoned": gone | crashed}}).decide()
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.FAILED, IN_CLOUD: code}


def test_the_last_resort_is_not_bound_by_a_budget():
    """With nowhere else to go, the device answers late and says why it answers at all."""
    assert decided(
        request={"offline": True, "latency_budget": 1.0},
        device={"battery": 0.1},
        edge={"predicted": SLOW},
    ) == (ON_DEVICE, Reason.LAST_RESORT)


@pytest.mark.parametrize(("code", "changes"), LASTING_DEVICE_VETOES)
def test_other_vetoes_of_the_device_do_not_yield(code, changes):
    """Where neither side may answer, both vetoes are given and there is no decision."""
    refused = outcome(**changes, cloud={"address": None})
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: code, IN_CLOUD: VetoCode.NO_ADDRESS}


def test_a_low_battery_does_not_hide_a_lasting_veto():
    """Too little memory stops the device even where its low battery would have yielded."""
    refused = outcome(
        device={"available_memory": 0, "battery": 0.1},
        edge={"memory_needed": 1000},
        cloud={"address": None},
    )
    assert isinstance(refused, NoSource)
    assert refused.vetoes[ON_DEVICE].code is VetoCode.MEMORY


def test_a_private_request_for_the_cloud_only_has_no_source():
    """What must not leave the device and must not be answered there is refused."""
    refused = outcome(request={"mode": Mode.ONLY_IN_CLOUD, "privacy": Privacy.PRIVATE})
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.MODE, IN_CLOUD: VetoCode.PRIVATE}


def test_both_sides_failed():
    """Where both sides have failed already, there is no third try."""
    refused = outcome(
        request={"abandoned": left(ON_DEVICE)["abandoned"] | left(IN_CLOUD)["abandoned"]}
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


def test_an_answer_that_may_be_cut_short_goes_to_a_cloud_with_room():
    """The cloud answers in full what the device would have to end early."""
    decision = outcome(**CUT_SHORT)
    assert (decision.source, decision.reason) == (IN_CLOUD, Reason.OTHER_VETOED)
    assert decision.vetoes[ON_DEVICE].code is VetoCode.CONTEXT_WINDOW


def test_an_answer_cut_short_is_better_than_none():
    """Without a cloud the device answers as far as its window reaches."""
    decision = outcome(**CUT_SHORT, cloud={"address": None})
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)


def test_an_answer_that_may_be_cut_short_does_not_hide_a_lasting_veto():
    """With memory short as well the device does not answer, whoever else cannot."""
    refused = outcome(**CUT_SHORT, device={"temperature": 99.0}, cloud={"address": None})
    assert veto_codes(refused)[ON_DEVICE] is VetoCode.TEMPERATURE


@pytest.mark.parametrize("window", [29, 10, 5])
def test_a_window_that_slides_is_never_too_small(window):
    """A text in the middle may be longer than the window by far, and goes on."""
    decision = outcome(request={"sliding_window": True}, edge={"context_window": window})
    assert decision.vetoes == {}
