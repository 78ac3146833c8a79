"""decide() and reconsider(): properties that hold in any state."""

import ast
import sys
from collections import defaultdict
from dataclasses import replace
from itertools import count, cycle, product
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edgewise.device.limits import Limits
from edgewise.policy import decide as policy
from edgewise.policy import types as plain_data
from edgewise.policy import vetoes
from edgewise.policy.types import (
    Availability,
    CloudState,
    Decision,
    DeviceState,
    EdgeState,
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

# Strategies.

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
    temperature_limit=st.floats(),
    low_power_mode=bools,
    network=bools,
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
    min_battery=st.floats(0, 1),
    memory_reserve=st.integers(0, 2**63 - 1),
    max_memory_pressure=st.floats(0, 1),
    max_temperature=st.none() | st.floats(0, 1000),
    max_queue=st.integers(1, 16),
    queue_timeout=st.sampled_from([0.0, 1.0]),
)
situations = st.builds(
    Situation, request=requests, device=devices, edge=edges, cloud=clouds, limits=some_limits
)
# In arbitrary states few rules meet: half of the states are plausible ones.
plausible_requests = st.builds(
    RoutingRequest,
    mode=st.sampled_from(Mode),
    privacy=st.sampled_from(Privacy),
    prompt_tokens=st.just(10),
    max_tokens=st.just(20),
    latency_budget=st.none() | st.floats(0, 10),
    offline=st.booleans(),
)
plausible_devices = st.builds(
    DeviceState,
    battery=st.none() | st.floats(0, 1),
    charging=bools,
    low_power_mode=bools,
    network=bools,
)
plausible_clouds = st.builds(
    CloudState,
    address=st.sampled_from([None, "cloud:1"]),
    predicted=st.builds(PredictedTime, total=st.none() | st.floats(0, 20)),
)
plausible = st.builds(
    Situation, request=plausible_requests, device=plausible_devices, cloud=plausible_clouds
)
any_situation = situations | plausible
progresses = st.builds(Progress, silent=st.floats(), expected=floats, remaining=floats)
on_device = st.builds(
    Decision,
    source=st.just(ON_DEVICE),
    reason=st.sampled_from(Reason),
    vetoes=several_vetoes,
    predicted=st.just({}),
)
# A busy machine is slow: the time of an example says nothing here.
no_deadline = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


# Private requests. Drawing a state takes a hundred times as long as deciding on it, so several of
# each part are drawn at a time and combined in every way.


def some(size, part):
    return st.lists(part, min_size=size, max_size=size, unique_by=repr)


parts_of_states = st.tuples(
    some(7, requests | plausible_requests),  # a prime, so that each meets all of the others
    some(12, devices | plausible_devices),
    some(10, edges | st.just(Situation().edge)),
    some(12, clouds | plausible_clouds),
    some(1, some_limits | st.just(Limits())),
)


@pytest.fixture(scope="module")
def private_states():
    """100 draws, each of parts that make a thousand states, a decision, and a progress."""
    draws = []

    @settings(no_deadline, max_examples=100, phases=[Phase.generate])
    @given(parts_of_states, on_device, progresses)
    def draw(parts, decision, progress):
        draws.append((parts, decision, progress))

    draw()
    return draws


def over_private_states(draws, check):
    """Call `check` for private requests in 100,000 states of device and cloud."""
    numbers = defaultdict(count().__next__)  # of parts, which hash slowly
    seen = set()
    for parts, *drawn in draws:
        some_requests, *states, (limits,) = parts
        private = [replace(request, privacy=Privacy.PRIVATE) for request in some_requests]
        for request, state in zip(cycle(private), product(*states), strict=False):
            check(Situation(request, *state, limits), *drawn)
        seen.update(product(*([numbers[part] for part in kind] for kind in states)))
    assert len(seen) > 100_000


def test_private_request_never_reaches_the_cloud(private_states):
    """In any state the cloud is vetoed for a private request, and not chosen."""

    def check(situation, *_):
        decision = situation.decide()
        assert decision.vetoes[IN_CLOUD].code is VetoCode.PRIVATE, str(situation)
        assert isinstance(decision, NoSource) or decision.source is ON_DEVICE, str(situation)

    over_private_states(private_states, check)


def test_private_generation_is_never_handed_over_to_the_cloud(private_states):
    """In any state and at any progress, there is no reason to."""

    def check(situation, decision, progress):
        assert situation.reconsider(decision, progress) is None, str(situation)

    over_private_states(private_states, check)


@no_deadline
@given(st.lists(st.tuples(any_situation, progresses), min_size=2, max_size=8))
def test_generation_is_handed_over_at_most_once(steps):
    """However the states change while it runs: it cannot flap. But a cloud without network returns."""
    abandoned, decision = {}, None
    for situation, progress in steps:
        now = situation.but({"request": {"abandoned": abandoned}})
        if decision is None:
            decision = now.decide()
            if isinstance(decision, NoSource):
                return
        elif veto := now.reconsider(decision, progress):
            assert veto.soft
            unplugged = veto.code is VetoCode.NO_NETWORK
            assert abandoned.keys() <= ({ON_DEVICE} if unplugged else set())
            returns = bool(abandoned)
            abandoned = abandoned | {decision.source: veto}
            decision = now.but({"request": {"abandoned": abandoned}}).decide()
            assert decision.source is ON_DEVICE if unplugged else decision.source not in abandoned
            assert decision.reason is Reason.LAST_RESORT or not returns


@no_deadline
@given(any_situation)
def test_offline_request_never_reaches_the_cloud(situation):
    """In any state, offline keeps everything on the device."""
    decision = situation.but({"request": {"offline": True}}).decide()
    assert isinstance(decision, NoSource) or decision.source is ON_DEVICE


@no_deadline
@pytest.mark.parametrize(
    ("mode", "source"), [(Mode.ONLY_ON_DEVICE, ON_DEVICE), (Mode.ONLY_IN_CLOUD, IN_CLOUD)]
)
@given(situation=any_situation)
def test_only_modes_never_choose_the_other_source(mode, source, situation):
    """In any state, a mode that allows one source never chooses the other."""
    decision = situation.but({"request": {"mode": mode}}).decide()
    assert isinstance(decision, NoSource) or decision.source is source


@no_deadline
@given(any_situation)
def test_vetoed_source_is_chosen_only_as_the_last_resort(situation):
    """The chosen source has no veto, or a soft one and the reason LAST_RESORT."""
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


@no_deadline
@given(any_situation)
def test_decide_never_raises(situation):
    """In any state there is an outcome, and every veto has a sentence."""
    decision = situation.decide()
    assert isinstance(decision, Decision | NoSource)
    assert all(veto.detail for veto in decision.vetoes.values())


@no_deadline
@given(any_situation, any_situation)
def test_decide_has_no_memory(situation, another):
    """The same states give the same outcome, whatever was decided in between."""
    first = situation.decide()
    another.decide()
    assert situation.decide() == first


PURE = {module.__name__: Path(module.__file__) for module in (policy, vetoes, plain_data)}


def imported_modules():
    """All that the policy imports, anywhere, except its own modules."""
    for path in PURE.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                name = "." * node.level + (node.module or "")
                if name not in PURE:
                    yield name.partition(".")[0]


def test_policy_imports_the_standard_library_only():
    """Nothing else, not even this package's other modules."""
    imported = set(imported_modules())
    assert "dataclasses" in imported
    assert imported <= sys.stdlib_module_names


def test_policy_imports_no_clock_no_randomness_and_no_io():
    """Nothing that could make two equal calls differ."""
    impure = {"time", "datetime", "random", "secrets", "os", "pathlib", "socket", "threading"}
    assert impure.isdisjoint(imported_modules())
