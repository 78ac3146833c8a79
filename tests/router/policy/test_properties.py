"""decide() and reconsider(): what holds whatever the states are."""

import ast
import sys
from itertools import product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewise.policy import decide as policy
from edgewise.policy import types as plain_data
from edgewise.policy import vetoes
from edgewise.policy.types import (
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
    Progress,
    Reason,
    RoutingRequest,
    Source,
    Veto,
    VetoCode,
)
from tests.router.policy.situations import IN_CLOUD, ON_DEVICE, Situation

# Whatever the states.

floats = st.none() | st.floats()
bools = st.none() | st.booleans()
counts = st.integers(0, 200)
sizes = st.integers(0, 2**64)
words = st.text(min_size=1)
predictions = st.builds(PredictedTime, floats, floats, floats)
several_vetoes = st.dictionaries(
    st.sampled_from(Source),
    st.builds(Veto, st.sampled_from(VetoCode), words, st.booleans()),
)
requests = st.builds(
    RoutingRequest,
    mode=st.sampled_from(Mode),
    privacy=st.sampled_from(Privacy),
    prompt_tokens=counts,
    max_tokens=counts,
    sliding_window=st.booleans(),
    first_token_budget=floats,
    latency_budget=floats,
    offline=st.booleans(),
    abandoned=several_vetoes,
)
devices = st.builds(
    DeviceState,
    available_memory=st.none() | sizes,
    memory_pressure=floats,
    battery=floats,
    charging=bools,
    temperature=floats,
    low_power_mode=bools,
)
edges = st.builds(
    EdgeState,
    availability=st.sampled_from(Availability),
    detail=st.text(),
    context_window=counts,
    memory_needed=sizes,
    queue_length=st.integers(0, 16),
    predicted=predictions,
)
clouds = st.builds(
    CloudState,
    address=st.none() | st.text(),
    circuit_open=st.booleans(),
    busy_for=st.floats(),
    context_window=st.none() | counts,
    predicted=predictions,
)
some_limits = st.builds(
    Limits,
    min_battery=st.floats(),
    memory_reserve=sizes,
    max_memory_pressure=st.floats(),
    max_temperature=st.floats(),
    max_queue=st.integers(0, 16),
)
situations = st.builds(
    Situation, request=requests, device=devices, edge=edges, cloud=clouds, limits=some_limits
)
# The rules seldom coincide in wholly arbitrary states: half of them start from a fitting one.
fitting_requests = st.builds(
    RoutingRequest,
    mode=st.sampled_from(Mode),
    privacy=st.sampled_from(Privacy),
    prompt_tokens=st.just(10),
    max_tokens=st.just(20),
    latency_budget=st.none() | st.floats(0, 10),
    offline=st.booleans(),
)
fitting_devices = st.builds(
    DeviceState, battery=st.none() | st.floats(0, 1), charging=bools, low_power_mode=bools
)
fitting_clouds = st.builds(
    CloudState,
    address=st.sampled_from([None, "cloud:1"]),
    predicted=st.builds(PredictedTime, total=st.none() | st.floats(0, 20)),
)
fitting = st.builds(
    Situation, request=fitting_requests, device=fitting_devices, cloud=fitting_clouds
)
any_situation = situations | fitting
progresses = st.builds(Progress, silent=st.floats(), expected=floats, remaining=floats)
on_device = st.builds(
    Decision,
    source=st.just(ON_DEVICE),
    reason=st.sampled_from(Reason),
    vetoes=several_vetoes,
    predicted=st.just({}),
)
# Busy machines are slow ones: how long an example takes says nothing here.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# Private requests. To draw a state takes a hundred times as long as to decide on it: so several of
# each part are drawn at a time, and each combination of them is a state.


def some(count, part):
    return st.lists(part, min_size=count, max_size=count, unique_by=repr)


crowds = st.tuples(
    some(1, requests | fitting_requests),
    some(8, devices | fitting_devices),
    some(5, edges | st.just(Situation().edge)),
    some(8, clouds | fitting_clouds),
    some(1, some_limits | st.just(Limits())),
)


def over_private_states(hold, *also_drawn):
    """Check that `hold` does for private requests over 100,000 states of device and cloud."""
    seen = set()

    # What fails is told as it is: to shrink a crowd takes minutes.
    @settings(unhurried, max_examples=450, phases=[Phase.generate])
    @given(crowds, st.tuples(*also_drawn))
    def check(crowd, drawn):
        for parts in product(*crowd):
            situation = Situation(*parts).but({"request": {"privacy": Privacy.PRIVATE}})
            hold(situation, *drawn)
            seen.add((situation.device, situation.edge, situation.cloud))

    check()
    assert len(seen) > 100_000


def test_a_private_request_never_reaches_the_cloud():
    """Whatever the states, the cloud is not chosen for a private request, and is vetoed."""

    def hold(situation):
        decision = situation.decide()
        assert decision.vetoes[IN_CLOUD].code is VetoCode.PRIVATE, str(situation)
        assert isinstance(decision, NoSource) or decision.source is ON_DEVICE, str(situation)

    over_private_states(hold)


def test_a_private_text_is_never_handed_over_to_the_cloud():
    """Whatever the states and however it goes, nothing is a reason to go on in the cloud."""

    def hold(situation, decision, progress):
        assert situation.reconsider(decision, progress) is None, str(situation)

    over_private_states(hold, on_device, progresses)


@unhurried
@given(st.lists(st.tuples(any_situation, progresses), min_size=2, max_size=8))
def test_a_text_is_handed_over_once_at_most(steps):
    """However the states change while it is written: it cannot be tossed to and fro."""
    left, decision = {}, None
    for situation, progress in steps:
        now = situation.but({"request": {"abandoned": left}})
        if decision is None:
            decision = now.decide()
            if isinstance(decision, NoSource):
                return
        elif why := now.reconsider(decision, progress):
            assert why.soft
            assert not left
            left = {decision.source: why}
            decision = now.but({"request": {"abandoned": left}}).decide()
            assert decision.source is not next(iter(left))


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
    """The chosen side has no veto, or one that yields and the reason says last resort."""
    decision = situation.decide()
    if isinstance(decision, NoSource):
        assert decision.vetoes.keys() == set(Source)
        assert not any(veto.soft for veto in decision.vetoes.values())
    elif decision.reason is Reason.LAST_RESORT:
        assert decision.vetoes.keys() == set(Source)
        assert decision.vetoes[decision.source].soft
        assert decision.source is ON_DEVICE or not decision.vetoes[ON_DEVICE].soft
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


PURE = {module.__name__: Path(module.__file__) for module in (policy, vetoes, plain_data)}


def imported_modules():
    """All that the policy imports, anywhere in it, but its own modules."""
    for path in PURE.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                name = "." * node.level + (node.module or "")
                if name not in PURE:
                    yield name.partition(".")[0]


def test_the_policy_imports_the_standard_library_only():
    """It needs nothing that is not Python's own, this package's other modules included."""
    imported = set(imported_modules())
    assert "dataclasses" in imported
    assert imported <= sys.stdlib_module_names


def test_the_policy_imports_no_clock_no_chance_and_no_world():
    """It imports nothing that could make two equal questions differ."""
    worldly = {"time", "datetime", "random", "secrets", "os", "pathlib", "socket", "threading"}
    assert worldly.isdisjoint(imported_modules())
