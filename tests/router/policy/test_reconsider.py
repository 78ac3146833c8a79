"""reconsider(): when the running source hands over to the other one."""

from dataclasses import replace

import pytest

from edgewise.policy.decide import MARGIN, MIN_STALL, STALL_FACTOR
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
from tests.router.policy.situations import (
    CLOUD_VETOES,
    DEVICE_VETOES,
    HARD_DEVICE_VETOES,
    IN_CLOUD,
    ON_DEVICE,
    SOFT_DEVICE_VETOES,
    Situation,
    abandoned,
)

FINE = Progress(silent=0.0, expected=0.1, remaining=1.0)
STALLED = Progress(silent=20.0, expected=0.1, remaining=40.0)
PROBLEMS = [
    (VetoCode.MEMORY, {"device": {"memory_pressure": 0.9}}),
    (VetoCode.MEMORY, {"device": {"available_memory": 0}, "edge": {"memory_needed": 1000}}),
    (VetoCode.TEMPERATURE, {"device": {"temperature": 99.0}}),
    (VetoCode.BATTERY, {"device": {"battery": 0.1}}),
    (VetoCode.LOW_POWER, {"device": {"low_power_mode": True}}),
]


def decision(source, reason=Reason.PREFERRED, vetoes=None):
    return Decision(source=source, reason=reason, vetoes=vetoes or {}, predicted={})


def veto_on(source, progress=FINE, /, **changes):
    """The veto with which a generation would leave `source` now."""
    return Situation().but(changes).reconsider(decision(source), progress)


def late(source, *, other, first_token=None, latency=None, **left):
    """A situation with budgets, in which the source that does not run would take `other`."""
    part = "cloud" if source is ON_DEVICE else "edge"
    budgets = {"first_token_budget": first_token, "latency_budget": latency}
    return Situation().but({"request": budgets | left, part: {"predicted": other}})


@pytest.mark.parametrize("source", Source)
def test_generation_without_problems_stays(source):
    """Without budgets there is no reason to hand over."""
    assert veto_on(source) is None


# Problems on the device.


@pytest.mark.parametrize(("code", "changes"), PROBLEMS)
def test_problem_on_the_device_hands_over_to_the_cloud(code, changes):
    """With the problem as a soft veto: returning is better than failing."""
    veto = veto_on(ON_DEVICE, **changes)
    assert (veto.code, veto.soft) == (code, True)
    assert veto.detail == Situation().but(changes).decide().vetoes[ON_DEVICE].detail


@pytest.mark.parametrize(("_code", "changes"), PROBLEMS)
@pytest.mark.parametrize(("_clouds_code", "clouds"), CLOUD_VETOES)
def test_no_handoff_to_a_vetoed_cloud(_code, changes, _clouds_code, clouds):
    """With any veto on the cloud the device continues, whatever its problem."""
    situation = Situation().but(changes).but(clouds)
    assert situation.reconsider(decision(ON_DEVICE), STALLED) is None


@pytest.mark.parametrize(("_code", "changes"), PROBLEMS)
def test_problem_known_at_the_decision_is_ignored(_code, changes):
    """A device that won a hedge with its battery low continues with its battery low."""
    situation = Situation().but(changes)
    known = situation.decide().vetoes
    won = decision(ON_DEVICE, Reason.HEDGED, known)
    assert situation.reconsider(won, FINE) is None


@pytest.mark.parametrize("edge", [{"queue_length": 8}, {"context_window": 29}])
def test_vetoes_for_new_requests_do_not_stop_a_running_one(edge):
    """It is itself in the queue, and its context was checked before."""
    assert veto_on(ON_DEVICE, edge=edge) is None


# A stalled cloud.


def test_stalled_cloud_hands_over_to_the_device():
    """With a soft veto."""
    veto = veto_on(IN_CLOUD, STALLED)
    assert (veto.code, veto.soft) == (VetoCode.STALLED, True)
    assert "20.0 s" in veto.detail


@pytest.mark.parametrize(("_code", "changes"), DEVICE_VETOES)
def test_no_handoff_to_a_vetoed_device(_code, changes):
    """With any veto on the device the cloud is waited for."""
    assert veto_on(IN_CLOUD, STALLED, **changes) is None


@pytest.mark.parametrize(
    ("expected", "silent", "stalled"),
    [
        (0.01, MIN_STALL, False),
        (0.01, MIN_STALL * 1.01, True),
        (1.0, STALL_FACTOR, False),
        (1.0, STALL_FACTOR * 1.01, True),
        (None, 1000.0, False),  # unknown
    ],
)
def test_stall_depends_on_the_expected_wait(expected, silent, stalled):
    """At least a second, and ten times the expected wait."""
    veto = veto_on(IN_CLOUD, Progress(silent=silent, expected=expected))
    assert (veto is not None) is stalled


def test_stalled_device_is_waited_for():
    """It does not depend on a network, and reports its failures."""
    assert veto_on(ON_DEVICE, STALLED) is None


# A cloud without a network.


@pytest.mark.parametrize(("_code", "changes"), [(None, {}), *SOFT_DEVICE_VETOES])
def test_cloud_without_a_network_hands_over_to_a_device_that_may_answer(_code, changes):
    """Also to one with a soft veto, as its last resort: the cloud can go on in no case."""
    situation = Situation().but(changes)
    situation = replace(situation, device=replace(situation.device, network=False))
    veto = situation.reconsider(decision(IN_CLOUD), FINE)
    assert (veto.code, veto.soft) == (VetoCode.NO_NETWORK, True)
    left = {**situation.request.abandoned, IN_CLOUD: veto}
    assert situation.but({"request": {"abandoned": left}}).decide().source is ON_DEVICE


@pytest.mark.parametrize(("_code", "changes"), HARD_DEVICE_VETOES)
def test_cloud_without_a_network_stays_where_the_device_may_not_answer(_code, changes):
    """What fails then is its connection, which says more."""
    situation = Situation().but(changes)
    situation = replace(situation, device=replace(situation.device, network=False))
    assert situation.reconsider(decision(IN_CLOUD), FINE) is None


# A source that is too slow.


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize(
    ("budget", "progress"),
    [
        ({"latency": 2.0}, Progress(expected=0.1, remaining=3.0)),
        ({"first_token": 2.0}, Progress(expected=3.0)),
        ({"first_token": 2.0, "latency": 9.0}, Progress(expected=3.0, remaining=4.0)),
    ],
)
def test_source_that_will_miss_a_budget_hands_over(source, budget, progress):
    """If the other source keeps all of them. The veto is soft."""
    fits = PredictedTime(first_token=1.0, total=1.5)
    veto = late(source, other=fits, **budget).reconsider(decision(source), progress)
    assert (veto.code, veto.soft) == (VetoCode.TOO_SLOW, True)


@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize(
    ("other", "hands_over"),
    [
        (PredictedTime(total=2.0 / MARGIN), True),
        (PredictedTime(total=2.0 / MARGIN + 0.01), False),  # too close
        (PredictedTime(total=9.0), False),
        (PredictedTime(), False),  # unknown
        (PredictedTime(first_token=0.1), False),
    ],
)
def test_other_source_must_fit_with_a_margin(source, other, hands_over):
    """A generation moves only for a clear gain; an unknown time is none."""
    slow = Progress(expected=0.1, remaining=3.0)
    veto = late(source, other=other, latency=2.0).reconsider(decision(source), slow)
    assert (veto is not None) is hands_over


@pytest.mark.parametrize("source", Source)
def test_source_that_just_fits_continues(source):
    """However much faster the other one is."""
    tight = Progress(expected=0.1, remaining=2.0)
    situation = late(source, other=PredictedTime(total=0.1), latency=2.0)
    assert situation.reconsider(decision(source), tight) is None


@pytest.mark.parametrize("source", Source)
def test_other_source_must_keep_every_budget(source):
    """Keeping one and missing another is no gain."""
    slow = Progress(expected=3.0, remaining=9.0)
    other = PredictedTime(first_token=0.1, total=9.0)
    situation = late(source, other=other, first_token=1.0, latency=4.0)
    assert situation.reconsider(decision(source), slow) is None


@pytest.mark.parametrize("source", Source)
def test_source_of_unknown_speed_continues(source):
    """Until something was measured."""
    situation = late(source, other=PredictedTime(0.1, 0.1), first_token=0.2, latency=0.2)
    assert situation.reconsider(decision(source), Progress()) is None


def test_late_token_is_expected_to_take_as_long_again():
    """A first token that was due 2 s ago is expected in 2 s, like one that is due in 2 s."""
    situation = late(ON_DEVICE, other=PredictedTime(first_token=0.1), first_token=1.9)
    for silent in (0.0, 4.0):
        veto = situation.reconsider(decision(ON_DEVICE), Progress(silent=silent, expected=2.0))
        assert veto.code is VetoCode.TOO_SLOW
    almost_there = Progress(silent=1.9, expected=2.0)
    assert situation.reconsider(decision(ON_DEVICE), almost_there) is None


@pytest.mark.parametrize("source", Source)
def test_no_second_handoff_for_slowness(source):
    """A generation that left the other source for being slow stays."""
    slow = Progress(expected=0.1, remaining=3.0)
    left = abandoned(source.other, VetoCode.TOO_SLOW, soft=True)
    situation = late(source, other=PredictedTime(total=0.1), latency=2.0, **left)
    assert situation.reconsider(decision(source), slow) is None


# Cases without a handoff.


@pytest.mark.parametrize("source", Source)
def test_last_resort_is_not_reconsidered(source):
    """The other source may not answer, or did no better."""
    problem = Situation().but({"device": {"temperature": 99.0}} if source is ON_DEVICE else {})
    assert problem.reconsider(decision(source), STALLED) is not None
    last = decision(source, Reason.LAST_RESORT)
    assert problem.reconsider(last, STALLED) is None


@pytest.mark.parametrize(("_code", "changes"), PROBLEMS)
@pytest.mark.parametrize(
    "kept",
    [{"privacy": Privacy.PRIVATE}, {"mode": Mode.ONLY_ON_DEVICE}, {"offline": True}],
)
def test_what_must_stay_on_the_device_stays(_code, changes, kept):
    """However hot and slow the device is."""
    situation = late(ON_DEVICE, other=PredictedTime(0.1, 0.1), first_token=0.2, latency=0.2)
    problem = situation.but(changes)
    assert problem.reconsider(decision(ON_DEVICE), STALLED) is not None
    assert problem.but({"request": kept}).reconsider(decision(ON_DEVICE), STALLED) is None


def test_the_veto_is_a_copy():
    """That it is soft here does not change what decide() says about the same problem."""
    no_memory = {"device": {"available_memory": 0}, "edge": {"memory_needed": 1000}}
    situation = Situation().but(no_memory)
    veto = situation.reconsider(decision(ON_DEVICE), FINE)
    assert replace(veto, soft=False) == situation.decide().vetoes[ON_DEVICE]
    assert isinstance(veto, Veto)
