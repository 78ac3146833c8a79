"""reconsider(): when a side that writes hands over to the other."""

from dataclasses import replace

import pytest

from edgewise.policy.decide import MARGIN, STALL, STALL_FACTOR
from edgewise.policy.types import (
    Decision,
    Mode,
    PredictedTime,
    Privacy,
    Progress,
    Reason,
    Source,
    Veto,
    VetoCode,
)
from tests.router.situations import (
    CLOUD_VETOES,
    DEVICE_VETOES,
    IN_CLOUD,
    ON_DEVICE,
    Situation,
    left,
)

FINE = Progress(silent=0.0, expected=0.1, remaining=1.0)
SILENT = Progress(silent=20.0, expected=0.1, remaining=40.0)
TROUBLES = [
    (VetoCode.MEMORY, {"device": {"memory_pressure": 0.9}}),
    (VetoCode.MEMORY, {"device": {"available_memory": 0}, "edge": {"memory_needed": 1000}}),
    (VetoCode.TEMPERATURE, {"device": {"temperature": 99.0}}),
    (VetoCode.BATTERY, {"device": {"battery": 0.1}}),
    (VetoCode.LOW_POWER, {"device": {"low_power_mode": True}}),
]


def decision(source, reason=Reason.PREFERRED, vetoes=None):
    return Decision(source=source, reason=reason, vetoes=vetoes or {}, predicted={})


def why(source, progress=FINE, /, **changes):
    """Why a text that `source` writes would be handed over now."""
    return Situation().but(changes).reconsider(decision(source), progress)


def late(source, *, other, first_token=None, latency=None, **gone):
    """A situation with budgets, in which the side that does not write takes `other`."""
    part = "cloud" if source is ON_DEVICE else "edge"
    budgets = {"first_token_budget": first_token, "latency_budget": latency}
    return Situation().but({"request": budgets | gone, part: {"predicted": other}})


@pytest.mark.parametrize("source", Source)
def test_a_text_that_goes_well_stays_where_it_is(source):
    """Without budgets and trouble there is nothing to hand over for."""
    assert why(source) is None


# Trouble on the device.


@pytest.mark.parametrize(("code", "changes"), TROUBLES)
def test_trouble_on_the_device_hands_over_to_the_cloud(code, changes):
    """What troubles the device is why, and it yields: better to return than to fail."""
    veto = why(ON_DEVICE, **changes)
    assert (veto.code, veto.soft) == (code, True)
    assert veto.detail == Situation().but(changes).decide().vetoes[ON_DEVICE].detail


@pytest.mark.parametrize(("_code", "changes"), TROUBLES)
@pytest.mark.parametrize(("_clouds_code", "clouds"), CLOUD_VETOES)
def test_nothing_is_handed_over_to_a_cloud_that_may_not_answer(
    _code, changes, _clouds_code, clouds
):
    """With any veto on the cloud the device goes on, whatever troubles it."""
    situation = Situation().but(changes).but(clouds)
    assert situation.reconsider(decision(ON_DEVICE), SILENT) is None


@pytest.mark.parametrize(("_code", "changes"), TROUBLES)
def test_trouble_that_was_known_when_the_device_was_chosen_is_no_news(_code, changes):
    """A device that won a race with its battery low goes on with its battery low."""
    situation = Situation().but(changes)
    known = situation.decide().vetoes
    won = decision(ON_DEVICE, Reason.HEDGED, known)
    assert situation.reconsider(won, FINE) is None


@pytest.mark.parametrize("edge", [{"queue_length": 8}, {"context_window": 29}])
def test_what_only_keeps_new_texts_away_stops_none(edge):
    """The text in hand is one of those in the queue, and its room was seen to before."""
    assert why(ON_DEVICE, edge=edge) is None


# A silent cloud.


def test_a_cloud_that_falls_silent_hands_over_to_the_device():
    """It stalled, and this yields."""
    veto = why(IN_CLOUD, SILENT)
    assert (veto.code, veto.soft) == (VetoCode.STALLED, True)
    assert "20.0 s" in veto.detail


@pytest.mark.parametrize(("_code", "changes"), DEVICE_VETOES)
def test_nothing_is_handed_over_to_a_device_that_may_not_answer(_code, changes):
    """With any veto on the device the cloud is waited for."""
    assert why(IN_CLOUD, SILENT, **changes) is None


@pytest.mark.parametrize(
    ("expected", "silent", "stalled"),
    [
        (0.01, STALL, False),
        (0.01, STALL * 1.01, True),
        (1.0, STALL_FACTOR, False),
        (1.0, STALL_FACTOR * 1.01, True),
        (None, 1000.0, False),  # nothing was expected
    ],
)
def test_silence_is_measured_by_what_was_expected(expected, silent, stalled):
    """A second at least, and ten times what was expected."""
    veto = why(IN_CLOUD, Progress(silent=silent, expected=expected))
    assert (veto is not None) is stalled


def test_a_silent_device_is_waited_for():
    """It is not at the mercy of a network; what it fails with, it says."""
    assert why(ON_DEVICE, SILENT) is None


# A side that is too slow.


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize(
    ("budget", "progress"),
    [
        ({"latency": 2.0}, Progress(expected=0.1, remaining=3.0)),
        ({"first_token": 2.0}, Progress(expected=3.0)),
        ({"first_token": 2.0, "latency": 9.0}, Progress(expected=3.0, remaining=4.0)),
    ],
)
def test_a_side_that_will_miss_a_budget_hands_over(source, budget, progress):
    """Where the other side keeps all of them; and this yields."""
    makes_it = PredictedTime(first_token=1.0, total=1.5)
    veto = late(source, other=makes_it, **budget).reconsider(decision(source), progress)
    assert (veto.code, veto.soft) == (VetoCode.TOO_SLOW, True)


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize(
    ("other", "hands_over"),
    [
        (PredictedTime(total=2.0 / MARGIN), True),
        (PredictedTime(total=2.0 / MARGIN + 0.01), False),  # too close
        (PredictedTime(total=9.0), False),
        (PredictedTime(), False),  # nobody knows
        (PredictedTime(first_token=0.1), False),
    ],
)
def test_the_other_side_must_make_it_with_time_to_spare(source, other, hands_over):
    """A text moves for a clear gain only; what is unknown is none."""
    slow = Progress(expected=0.1, remaining=3.0)
    veto = late(source, other=other, latency=2.0).reconsider(decision(source), slow)
    assert (veto is not None) is hands_over


@pytest.mark.parametrize("source", Source)
def test_a_side_that_just_makes_it_goes_on(source):
    """However much faster the other one is."""
    barely = Progress(expected=0.1, remaining=2.0)
    situation = late(source, other=PredictedTime(total=0.1), latency=2.0)
    assert situation.reconsider(decision(source), barely) is None


@pytest.mark.parametrize("source", Source)
def test_every_budget_must_be_kept_by_the_other_side(source):
    """It is no gain to keep one and miss another."""
    slow = Progress(expected=3.0, remaining=9.0)
    other = PredictedTime(first_token=0.1, total=9.0)
    situation = late(source, other=other, first_token=1.0, latency=4.0)
    assert situation.reconsider(decision(source), slow) is None


@pytest.mark.parametrize("source", Source)
def test_a_pace_that_nobody_knows_is_no_slowness(source):
    """Until something was measured or said, a side goes on."""
    situation = late(source, other=PredictedTime(0.1, 0.1), first_token=0.2, latency=0.2)
    assert situation.reconsider(decision(source), Progress()) is None


def test_what_is_late_is_taken_to_be_late_by_as_much_again():
    """A first token due 2 s ago is expected in 2 s; one due in 2 s, likewise."""
    situation = late(ON_DEVICE, other=PredictedTime(first_token=0.1), first_token=1.9)
    for silent in (0.0, 4.0):
        veto = situation.reconsider(decision(ON_DEVICE), Progress(silent=silent, expected=2.0))
        assert veto.code is VetoCode.TOO_SLOW
    almost_there = Progress(silent=1.9, expected=2.0)
    assert situation.reconsider(decision(ON_DEVICE), almost_there) is None


@pytest.mark.parametrize("source", Source)
def test_no_side_is_left_for_its_slowness_twice(source):
    """A text that left the other side for being slow stays where it is now."""
    slow = Progress(expected=0.1, remaining=3.0)
    gone = left(source.other, VetoCode.TOO_SLOW, soft=True)
    situation = late(source, other=PredictedTime(total=0.1), latency=2.0, **gone)
    assert situation.reconsider(decision(source), slow) is None


# Where there is no question.


@pytest.mark.parametrize("source", Source)
def test_a_last_resort_is_not_reconsidered(source):
    """Nobody else may answer, or did it any better."""
    troubled = Situation().but({"device": {"temperature": 99.0}} if source is ON_DEVICE else {})
    assert troubled.reconsider(decision(source), SILENT) is not None
    last = decision(source, Reason.LAST_RESORT)
    assert troubled.reconsider(last, SILENT) is None


@pytest.mark.parametrize(("_code", "changes"), TROUBLES)
@pytest.mark.parametrize(
    "kept",
    [{"privacy": Privacy.PRIVATE}, {"mode": Mode.ONLY_ON_DEVICE}, {"offline": True}],
)
def test_what_stays_on_the_device_stays_there(_code, changes, kept):
    """Too hot, too slow and silent: what may not leave the device does not."""
    situation = late(ON_DEVICE, other=PredictedTime(0.1, 0.1), first_token=0.2, latency=0.2)
    troubled = situation.but(changes)
    assert troubled.reconsider(decision(ON_DEVICE), SILENT) is not None
    assert troubled.but({"request": kept}).reconsider(decision(ON_DEVICE), SILENT) is None


def test_the_veto_is_a_copy():
    """That it yields here changes nothing about what decide() says of the same trouble."""
    situation = Situation().but({"device": {"temperature": 99.0}})
    veto = situation.reconsider(decision(ON_DEVICE), FINE)
    assert replace(veto, soft=False) == situation.decide().vetoes[ON_DEVICE]
    assert isinstance(veto, Veto)
