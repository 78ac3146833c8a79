"""decide(): what holds whatever the states are."""

import ast
import sys
from pathlib import Path

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
)
from tests.router.situations import IN_CLOUD, ON_DEVICE, Situation, veto_codes

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
