"""decide(): every rule, in its order, and what holds whatever the states are."""

import ast
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgewise import policy
from edgewise.policy import (
    Availability,
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
    Limits,
    Mode,
    NoSource,
    PredictedTime,
    Privacy,
    Reason,
    RoutingRequest,
    Source,
    VetoCode,
    decide,
)

ON_DEVICE, IN_CLOUD = Source.ON_DEVICE, Source.IN_CLOUD
LIMITS = Limits()
RESERVE = LIMITS.memory_reserve


REQUEST = RoutingRequest(
    mode=Mode.PREFER_ON_DEVICE, privacy=Privacy.ALLOW_CLOUD, prompt_tokens=10, max_tokens=20
)
DEVICE = DeviceState()
EDGE = EdgeState(availability=Availability.AVAILABLE, context_window=128)
CLOUD = CloudState(address="cloud:1", context_window=128)


@dataclass(frozen=True)
class Situation:
    """All that decide() looks at; as it stands, both sides may answer."""

    request: RoutingRequest = REQUEST
    device: DeviceState = DEVICE
    edge: EdgeState = EDGE
    cloud: CloudState = CLOUD
    limits: Limits = LIMITS

    def but(self, changes: Mapping[str, Mapping[str, Any]]) -> "Situation":
        """The same with some attributes of some parts changed."""
        return replace(
            self, **{part: replace(getattr(self, part), **new) for part, new in changes.items()}
        )

    def decide(self) -> Decision | NoSource:
        """Ask the policy."""
        return decide(self.request, self.device, self.edge, self.cloud, self.limits)


def outcome(**changes: Mapping[str, Any]) -> Decision | NoSource:
    """What is decided with these changes to the unproblematic situation."""
    return Situation().but(changes).decide()


def decided(**changes: Mapping[str, Any]) -> tuple[Source, Reason]:
    """The source and the reason, where there is a decision."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    return decision.source, decision.reason


def veto_codes(decision: Decision | NoSource) -> dict[Source, VetoCode]:
    """The code of each side's veto."""
    return {side: veto.code for side, veto in decision.vetoes.items()}


# Each with the changes that bring it about, in the order in which they are looked for.
CLOUD_VETOES = [
    (VetoCode.PRIVATE, {"request": {"privacy": Privacy.PRIVATE}}),
    (VetoCode.MODE, {"request": {"mode": Mode.ONLY_ON_DEVICE}}),
    (VetoCode.OFFLINE, {"request": {"offline": True}}),
    (VetoCode.FAILED, {"request": {"failed": {IN_CLOUD: "it hung up"}}}),
    (VetoCode.NO_ADDRESS, {"cloud": {"address": None}}),
    (VetoCode.CIRCUIT_OPEN, {"cloud": {"circuit_open": True}}),
    (VetoCode.CONTEXT_WINDOW, {"cloud": {"context_window": 29}}),
]
DEVICE_VETOES = [
    (VetoCode.MODE, {"request": {"mode": Mode.ONLY_IN_CLOUD}}),
    (VetoCode.FAILED, {"request": {"failed": {ON_DEVICE: "it crashed"}}}),
    (VetoCode.MODEL_UNAVAILABLE, {"edge": {"availability": Availability.UNAVAILABLE}}),
    (VetoCode.CONTEXT_WINDOW, {"edge": {"context_window": 29}}),
    (VetoCode.MEMORY, {"device": {"memory_pressure": 0.9}}),
    (VetoCode.TEMPERATURE, {"device": {"temperature": 99.0}}),
    (VetoCode.QUEUE_FULL, {"edge": {"queue_length": 4}}),
    (VetoCode.BATTERY, {"device": {"battery": 0.1}}),
    (VetoCode.LOW_POWER, {"device": {"low_power_mode": True}}),
]


def test_nothing_against_the_device_keeps_the_request_there():
    """With both sides able, the device answers and there are no vetoes."""
    decision = outcome()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.PREFERRED)
    assert decision.vetoes == {}


@pytest.mark.parametrize(("code", "changes"), CLOUD_VETOES)
def test_cloud_vetoes(code, changes):
    """Each rule against the cloud vetoes it, and it alone."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    assert decision.source is ON_DEVICE
    assert veto_codes(decision) == {IN_CLOUD: code}


@pytest.mark.parametrize(("code", "changes"), CLOUD_VETOES)
def test_a_vetoed_cloud_is_not_chosen_though_preferred(code, changes):
    """Where the cloud is preferred but vetoed, the device answers."""
    mode = {"mode": Mode.PREFER_IN_CLOUD} | changes.get("request", {})
    assert decided(**changes | {"request": mode})[0] is ON_DEVICE


@pytest.mark.parametrize(("code", "changes"), DEVICE_VETOES)
def test_device_vetoes(code, changes):
    """Each rule against the device vetoes it, and it alone."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    assert decision.source is IN_CLOUD
    assert veto_codes(decision) == {ON_DEVICE: code}


def all_from(vetoes, index):
    """The situation in which every veto from `index` on applies."""
    situation = Situation()
    for _, changes in vetoes[index:]:
        situation = situation.but(changes)
    return situation


@pytest.mark.parametrize("index", range(len(CLOUD_VETOES)))
def test_the_first_cloud_veto_is_told(index):
    """Of several vetoes against the cloud, the earliest rule's is the one given."""
    decision = all_from(CLOUD_VETOES, index).decide()
    assert decision.vetoes[IN_CLOUD].code is CLOUD_VETOES[index][0]


@pytest.mark.parametrize("index", range(len(DEVICE_VETOES)))
def test_the_first_device_veto_is_told(index):
    """Of several vetoes against the device, the earliest rule's is the one given."""
    decision = all_from(DEVICE_VETOES, index).decide()
    assert decision.vetoes[ON_DEVICE].code is DEVICE_VETOES[index][0]


@pytest.mark.parametrize(
    ("changes", "side", "words"),
    [
        ({"request": {"failed": {IN_CLOUD: "it hung up"}}}, IN_CLOUD, ["it hung up"]),
        ({"request": {"failed": {ON_DEVICE: "it crashed"}}}, ON_DEVICE, ["it crashed"]),
        ({"cloud": {"circuit_open": True}}, IN_CLOUD, ["cloud:1"]),
        ({"cloud": {"context_window": 29}}, IN_CLOUD, ["10", "20", "29"]),
        ({"edge": {"context_window": 29}}, ON_DEVICE, ["10", "20", "29"]),
        ({"device": {"memory_pressure": 0.55}}, ON_DEVICE, ["55%", "40%"]),
        ({"device": {"temperature": 99.0}}, ON_DEVICE, ["99 °C", "90"]),
        ({"device": {"battery": 0.19}}, ON_DEVICE, ["19%", "20%"]),
        ({"edge": {"queue_length": 7}}, ON_DEVICE, ["7"]),
        (
            {"edge": {"memory_needed": 300_000_000}, "device": {"available_memory": 150_000_000}},
            ON_DEVICE,
            ["150 MB", "300", "67"],
        ),
    ],
)
def test_a_veto_tells_the_figures(changes, side, words):
    """The sentence of a veto names what was found and the limit it broke."""
    detail = outcome(**changes).vetoes[side].detail
    assert [word for word in words if word not in detail] == []


@pytest.mark.parametrize("side", ["edge", "cloud"])
def test_a_full_window_fits(side):
    """Prompt and answer may fill the context window to the last token."""
    assert outcome(**{side: {"context_window": 30}}).vetoes == {}


def test_an_unknown_window_of_the_cloud_is_no_veto():
    """A cloud that was not asked yet gets the benefit of the doubt."""
    assert outcome(cloud={"context_window": None}).vetoes == {}


@pytest.mark.parametrize(
    "availability", [Availability.UNAVAILABLE, Availability.DOWNLOADABLE, Availability.DOWNLOADING]
)
def test_only_a_model_on_the_device_can_answer(availability):
    """A model that could be or is being downloaded is as good as none, and its veto says which."""
    veto = outcome(edge={"availability": availability}).vetoes[ON_DEVICE]
    assert veto.code is VetoCode.MODEL_UNAVAILABLE
    assert availability in veto.detail


def test_the_models_own_words_say_why_it_is_unavailable():
    """Where it is known why the model is unavailable, the veto says that."""
    edge = {"availability": Availability.UNAVAILABLE, "detail": "its checksum is wrong"}
    assert outcome(edge=edge).vetoes[ON_DEVICE].detail == "its checksum is wrong"


@pytest.mark.parametrize(
    ("available", "vetoed"),
    [(1000 + RESERVE - 1, True), (1000 + RESERVE, False), (0, True), (None, False)],
)
def test_memory_must_hold_the_model_and_the_reserve(available, vetoed):
    """What is not loaded yet must fit beside the reserve; unknown memory is no constraint."""
    decision = outcome(device={"available_memory": available}, edge={"memory_needed": 1000})
    assert (ON_DEVICE in decision.vetoes) is vetoed


def test_a_loaded_model_needs_no_memory():
    """With nothing left to load, no free memory is no veto."""
    assert outcome(device={"available_memory": 0}, edge={"memory_needed": 0}).vetoes == {}


def test_memory_pressure_stops_a_loaded_model_too():
    """A device that stalls for memory is left alone even by a loaded model."""
    decision = outcome(device={"memory_pressure": 0.9}, edge={"memory_needed": 0})
    assert veto_codes(decision) == {ON_DEVICE: VetoCode.MEMORY}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": {"memory_pressure": LIMITS.max_memory_pressure}},
        {"device": {"temperature": LIMITS.max_temperature}},
        {"device": {"battery": LIMITS.min_battery}},
        {"edge": {"queue_length": LIMITS.max_queue - 1}},
    ],
)
def test_a_limit_reached_is_not_crossed(changes):
    """What is exactly at its limit is no veto; for the queue, one place must be left."""
    assert outcome(**changes).vetoes == {}


@pytest.mark.parametrize(
    ("limits", "changes"),
    [
        ({"max_memory_pressure": 0.1}, {"device": {"memory_pressure": 0.2}}),
        ({"max_temperature": 40.0}, {"device": {"temperature": 50.0}}),
        ({"min_battery": 0.8}, {"device": {"battery": 0.7}}),
        ({"max_queue": 1}, {"edge": {"queue_length": 1}}),
        (
            {"memory_reserve": 2**30},
            {"device": {"available_memory": 2**30}, "edge": {"memory_needed": 1}},
        ),
    ],
)
def test_limits_can_be_set(limits, changes):
    """Where the device's comfort ends is the user's to say."""
    assert outcome(**changes).vetoes == {}
    assert ON_DEVICE in outcome(limits=limits, **changes).vetoes


@pytest.mark.parametrize(
    ("battery", "charging", "vetoed"),
    [
        (0.1, False, True),
        (0.1, None, True),  # not known to charge
        (0.1, True, False),
        (0.9, False, False),
        (None, False, False),  # no battery
    ],
)
def test_a_low_battery_vetoes_unless_it_charges(battery, charging, vetoed):
    """A charge below the floor counts unless it charges; no battery is no constraint."""
    decision = outcome(device={"battery": battery, "charging": charging})
    assert (ON_DEVICE in decision.vetoes) is vetoed


@pytest.mark.parametrize("low_power_mode", [False, None])
def test_only_a_low_power_mode_that_is_on_vetoes(low_power_mode):
    """A low-power mode that is off, or that the device does not have, is no constraint."""
    assert outcome(device={"low_power_mode": low_power_mode}).vetoes == {}


@pytest.mark.parametrize("mode", [Mode.PREFER_IN_CLOUD, Mode.ONLY_IN_CLOUD])
def test_modes_of_the_cloud_choose_the_cloud(mode):
    """Where the cloud is wanted and may answer, it does."""
    assert decided(request={"mode": mode}) == (IN_CLOUD, Reason.PREFERRED)


@pytest.mark.parametrize(
    ("mode", "changes", "source"),
    [
        (Mode.PREFER_ON_DEVICE, {"device": {"battery": 0.1}}, IN_CLOUD),
        (Mode.PREFER_IN_CLOUD, {"cloud": {"address": None}}, ON_DEVICE),
    ],
)
def test_the_other_side_stands_in_for_a_vetoed_one(mode, changes, source):
    """Where the preferred side may not answer, the other does."""
    assert decided(request={"mode": mode}, **changes) == (source, Reason.OTHER_VETOED)


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
    """A predicted time equal to the budget fits."""
    assert budgeted(budget, Mode.PREFER_ON_DEVICE, edge=SLOW, cloud=FAST) == (
        ON_DEVICE,
        Reason.PREFERRED,
    )


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


@pytest.mark.parametrize("device", [{"battery": 0.1}, {"low_power_mode": True}])
@pytest.mark.parametrize(("code", "changes"), CLOUD_VETOES)
def test_where_the_cloud_cannot_answer_a_veto_of_power_yields(device, code, changes):
    """Low on power, the device still answers what nobody else can, and both vetoes are told."""
    decision = outcome(device=device, **changes)
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.LAST_RESORT)
    assert decision.vetoes[IN_CLOUD].code is code
    assert ON_DEVICE in decision.vetoes


def test_the_last_resort_is_not_bound_by_a_budget():
    """With nowhere else to go, the device answers late and says why it answers at all."""
    assert decided(
        request={"offline": True, "latency_budget": 1.0},
        device={"battery": 0.1},
        edge={"predicted": SLOW},
    ) == (ON_DEVICE, Reason.LAST_RESORT)


LASTING_DEVICE_VETOES = [
    (code, changes)
    for code, changes in DEVICE_VETOES
    if code not in (VetoCode.BATTERY, VetoCode.LOW_POWER)
]


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
    refused = outcome(request={"failed": {ON_DEVICE: "it crashed", IN_CLOUD: "it hung up"}})
    assert isinstance(refused, NoSource)
    assert veto_codes(refused) == {ON_DEVICE: VetoCode.FAILED, IN_CLOUD: VetoCode.FAILED}


# Whatever the states.

floats = st.none() | st.floats()
bools = st.none() | st.booleans()
counts = st.integers(0, 200)
sizes = st.integers(0, 2**64)
predictions = st.builds(PredictedTime, floats, floats)
situations = st.builds(
    Situation,
    request=st.builds(
        RoutingRequest,
        mode=st.sampled_from(Mode),
        privacy=st.sampled_from(Privacy),
        prompt_tokens=counts,
        max_tokens=counts,
        first_token_budget=floats,
        latency_budget=floats,
        offline=st.booleans(),
        failed=st.dictionaries(st.sampled_from(Source), st.text(min_size=1)),
    ),
    device=st.builds(
        DeviceState,
        available_memory=st.none() | sizes,
        memory_pressure=floats,
        battery=floats,
        charging=bools,
        temperature=floats,
        low_power_mode=bools,
    ),
    edge=st.builds(
        EdgeState,
        availability=st.sampled_from(Availability),
        detail=st.text(),
        context_window=counts,
        memory_needed=sizes,
        queue_length=st.integers(0, 8),
        predicted=predictions,
    ),
    cloud=st.builds(
        CloudState,
        address=st.none() | st.text(),
        circuit_open=st.booleans(),
        context_window=st.none() | counts,
        predicted=predictions,
    ),
    limits=st.builds(
        Limits,
        min_battery=st.floats(),
        memory_reserve=sizes,
        max_memory_pressure=st.floats(),
        max_temperature=st.floats(),
        max_queue=st.integers(0, 8),
    ),
)
# The rules seldom coincide in wholly arbitrary states: half of them start from a fitting one.
fitting = st.builds(
    Situation,
    request=st.builds(
        RoutingRequest,
        mode=st.sampled_from(Mode),
        privacy=st.sampled_from(Privacy),
        prompt_tokens=st.just(10),
        max_tokens=st.just(20),
        latency_budget=st.none() | st.floats(0, 10),
        offline=st.booleans(),
    ),
    device=st.builds(
        DeviceState, battery=st.none() | st.floats(0, 1), charging=bools, low_power_mode=bools
    ),
    cloud=st.builds(
        CloudState,
        address=st.sampled_from([None, "cloud:1"]),
        predicted=st.builds(PredictedTime, total=st.none() | st.floats(0, 20)),
    ),
)
any_situation = situations | fitting
# Busy machines are slow ones: how long an example takes says nothing here.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@unhurried
@given(any_situation)
def test_a_private_request_never_reaches_the_cloud(situation):
    """Whatever the states, the cloud is not chosen for a private request, and is vetoed."""
    decision = situation.but({"request": {"privacy": Privacy.PRIVATE}}).decide()
    assert veto_codes(decision)[IN_CLOUD] is VetoCode.PRIVATE
    assert isinstance(decision, NoSource) or decision.source is ON_DEVICE


@unhurried
@given(any_situation)
def test_an_offline_request_never_reaches_the_cloud(situation):
    """Whatever the states, the offline switch keeps everything on the device."""
    decision = situation.but({"request": {"offline": True}}).decide()
    assert isinstance(decision, NoSource) or decision.source is ON_DEVICE


@unhurried
@pytest.mark.parametrize(
    ("mode", "source"), [(Mode.ONLY_ON_DEVICE, ON_DEVICE), (Mode.ONLY_IN_CLOUD, IN_CLOUD)]
)
@given(situation=any_situation)
def test_the_only_modes_never_choose_the_other_side(mode, source, situation):
    """Whatever the states, a mode that allows one side never ends on the other."""
    decision = situation.but({"request": {"mode": mode}}).decide()
    assert isinstance(decision, NoSource) or decision.source is source


@unhurried
@given(any_situation)
def test_a_vetoed_side_is_chosen_as_the_last_resort_only(situation):
    """The chosen side has no veto, or it is the device's and the reason says last resort."""
    decision = situation.decide()
    if isinstance(decision, NoSource):
        assert decision.vetoes.keys() == set(Source)
    elif decision.reason is Reason.LAST_RESORT:
        assert decision.source is ON_DEVICE
        assert decision.vetoes.keys() == set(Source)
        assert decision.vetoes[ON_DEVICE].yields
    else:
        assert decision.source not in decision.vetoes


@unhurried
@given(any_situation)
def test_decide_never_raises(situation):
    """Whatever the states, there is an outcome, and every veto says something."""
    decision = situation.decide()
    assert isinstance(decision, Decision | NoSource)
    assert all(veto.detail for veto in decision.vetoes.values())


@unhurried
@given(any_situation, any_situation)
def test_decide_remembers_nothing(situation, another):
    """The same states give the same outcome, whatever was decided in between."""
    first = situation.decide()
    another.decide()
    assert situation.decide() == first


def imported_modules():
    """The top-level names of all that policy.py imports, anywhere in it."""
    tree = ast.parse(Path(policy.__file__).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "").partition(".")[0]


def test_the_policy_imports_the_standard_library_only():
    """policy.py needs nothing that is not Python's own, this package's modules included."""
    imported = set(imported_modules())
    assert "dataclasses" in imported
    assert imported <= sys.stdlib_module_names


def test_the_policy_imports_no_clock_no_chance_and_no_world():
    """policy.py imports nothing that could make two equal questions differ."""
    worldly = {"time", "datetime", "random", "secrets", "os", "pathlib", "socket", "threading"}
    assert worldly.isdisjoint(imported_modules())


def test_only_the_missed_budget_is_compared():
    """A cloud that is late by less for the first token wins, however long the rest takes."""
    assert decided(
        request={"first_token_budget": 0.1},
        edge={"predicted": PredictedTime(5.0, 10.0)},
        cloud={"predicted": PredictedTime(0.2, 11.0)},
    ) == (Source.IN_CLOUD, Reason.BUDGET_MISSED)
