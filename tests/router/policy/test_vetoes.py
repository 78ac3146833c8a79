"""decide(): what vetoes a source, and in which order."""

import pytest

from edgewise.policy.types import (
    MAX_TEMPERATURE,
    Availability,
    Decision,
    Mode,
    Reason,
    VetoCode,
)
from tests.router.policy.situations import (
    CLOUD_VETOES,
    DEVICE_VETOES,
    IN_CLOUD,
    LIMITS,
    ON_DEVICE,
    RESERVE,
    Situation,
    abandoned,
    decided,
    outcome,
    veto_codes,
)


def test_without_vetoes_the_device_answers():
    """And the decision has no vetoes."""
    decision = outcome()
    assert isinstance(decision, Decision)
    assert (decision.source, decision.reason) == (ON_DEVICE, Reason.PREFERRED)
    assert decision.vetoes == {}


@pytest.mark.parametrize(("code", "changes"), CLOUD_VETOES)
def test_cloud_vetoes(code, changes):
    """Each rule against the cloud vetoes only the cloud."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    assert decision.source is ON_DEVICE
    assert veto_codes(decision) == {IN_CLOUD: code}


@pytest.mark.parametrize(("code", "changes"), CLOUD_VETOES)
def test_vetoed_cloud_is_not_chosen_even_if_preferred(code, changes):
    """The device answers instead."""
    mode = {"mode": Mode.PREFER_IN_CLOUD} | changes.get("request", {})
    assert decided(**changes | {"request": mode})[0] is ON_DEVICE


@pytest.mark.parametrize(("code", "changes"), DEVICE_VETOES)
def test_device_vetoes(code, changes):
    """Each rule against the device vetoes only the device."""
    decision = outcome(**changes)
    assert isinstance(decision, Decision)
    assert decision.source is IN_CLOUD
    assert veto_codes(decision) == {ON_DEVICE: code}


def all_from(vetoes, index):
    """The situation to which every veto from `index` on applies."""
    situation = Situation()
    for _, changes in reversed(vetoes[index:]):  # an earlier change overrides a later one
        situation = situation.but(changes)
    return situation


@pytest.mark.parametrize("index", range(len(CLOUD_VETOES)))
def test_first_cloud_veto_is_reported(index):
    """Of several vetoes against the cloud, the one of the earliest rule is reported."""
    decision = all_from(CLOUD_VETOES, index).decide()
    assert decision.vetoes[IN_CLOUD] == outcome(**CLOUD_VETOES[index][1]).vetoes[IN_CLOUD]


@pytest.mark.parametrize("index", range(len(DEVICE_VETOES)))
def test_first_device_veto_is_reported(index):
    """Of several vetoes against the device, the one of the earliest rule is reported."""
    decision = all_from(DEVICE_VETOES, index).decide()
    assert decision.vetoes[ON_DEVICE] == outcome(**DEVICE_VETOES[index][1]).vetoes[ON_DEVICE]


@pytest.mark.parametrize(
    ("changes", "source", "words"),
    [
        ({"request": abandoned(IN_CLOUD, detail="it hung up")}, IN_CLOUD, ["it hung up"]),
        ({"request": abandoned(ON_DEVICE, detail="it crashed")}, ON_DEVICE, ["it crashed"]),
        ({"cloud": {"circuit_open": True}}, IN_CLOUD, ["cloud:1"]),
        ({"cloud": {"context_window": 29}}, IN_CLOUD, ["10", "20", "29"]),
        ({"cloud": {"busy_for": 2.5}}, IN_CLOUD, ["cloud:1", "2.5 s"]),
        ({"edge": {"context_window": 29}}, ON_DEVICE, ["10", "20", "29"]),
        ({"device": {"memory_pressure": 0.55}}, ON_DEVICE, ["55%", "40%"]),
        ({"device": {"temperature": 99.0}}, ON_DEVICE, ["99 °C", "90"]),
        ({"device": {"battery": 0.19}}, ON_DEVICE, ["19%", "20%"]),
        ({"edge": {"queue_length": 9}}, ON_DEVICE, ["9"]),
        (
            {"edge": {"memory_needed": 300_000_000}, "device": {"available_memory": 150_000_000}},
            ON_DEVICE,
            ["150 MB", "300", "67"],
        ),
    ],
)
def test_veto_has_the_numbers(changes, source, words):
    """Its sentence names the value that was found and the limit it broke."""
    detail = outcome(**changes).vetoes[source].detail
    assert [word for word in words if word not in detail] == []


@pytest.mark.parametrize("part", ["edge", "cloud"])
def test_full_window_fits(part):
    """Prompt and answer may fill the context window to the last token."""
    assert outcome(**{part: {"context_window": 30}}).vetoes == {}


def test_unknown_window_of_the_cloud_is_no_veto():
    """A cloud that has not been asked yet may answer."""
    assert outcome(cloud={"context_window": None}).vetoes == {}


@pytest.mark.parametrize(
    "availability", [Availability.UNAVAILABLE, Availability.DOWNLOADABLE, Availability.DOWNLOADING]
)
def test_only_an_available_model_can_answer(availability):
    """A model that could be or is being downloaded cannot, and its veto says which."""
    veto = outcome(edge={"availability": availability}).vetoes[ON_DEVICE]
    assert veto.code is VetoCode.MODEL_UNAVAILABLE
    assert availability in veto.detail


def test_veto_says_why_the_model_is_unavailable():
    """If that is known."""
    edge = {"availability": Availability.UNAVAILABLE, "detail": "its checksum is wrong"}
    assert outcome(edge=edge).vetoes[ON_DEVICE].detail == "its checksum is wrong"


@pytest.mark.parametrize(
    ("available", "vetoed"),
    [(1000 + RESERVE - 1, True), (1000 + RESERVE, False), (0, True), (None, False)],
)
def test_memory_must_hold_the_model_and_the_reserve(available, vetoed):
    """Of what is not loaded yet; unknown memory is no constraint."""
    decision = outcome(device={"available_memory": available}, edge={"memory_needed": 1000})
    assert (ON_DEVICE in decision.vetoes) is vetoed


def test_loaded_model_needs_no_memory():
    """With nothing left to load, no free memory is no veto."""
    assert outcome(device={"available_memory": 0}, edge={"memory_needed": 0}).vetoes == {}


def test_memory_pressure_vetoes_a_loaded_model_too():
    """A device that is stalled on memory would be slow."""
    decision = outcome(device={"memory_pressure": 0.9}, edge={"memory_needed": 0})
    assert veto_codes(decision) == {ON_DEVICE: VetoCode.MEMORY}


@pytest.mark.parametrize(
    "changes",
    [
        {"device": {"memory_pressure": LIMITS.max_memory_pressure}},
        {"device": {"temperature": MAX_TEMPERATURE}},
        {"device": {"battery": LIMITS.min_battery}},
        {"edge": {"queue_length": LIMITS.max_queue - 1}},
    ],
)
def test_limit_reached_is_not_exceeded(changes):
    """A value exactly at its limit is no veto; for the queue, one place must be left."""
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
    """The user may set every limit."""
    assert outcome(**changes).vetoes == {}
    assert ON_DEVICE in outcome(limits=limits, **changes).vetoes


@pytest.mark.parametrize(
    ("battery", "charging", "vetoed"),
    [
        (0.1, False, True),
        (0.1, None, True),  # unknown
        (0.1, True, False),
        (0.9, False, False),
        (None, False, False),  # no battery
    ],
)
def test_low_battery_vetoes_unless_charging(battery, charging, vetoed):
    """No battery is no constraint."""
    decision = outcome(device={"battery": battery, "charging": charging})
    assert (ON_DEVICE in decision.vetoes) is vetoed


@pytest.mark.parametrize(
    ("own", "limit", "temperature", "vetoed"),
    [
        (105.0, None, 95.0, False),
        (84.0, None, 85.0, True),
        (105.0, 80.0, 85.0, True),
        (84.0, 100.0, 95.0, False),
    ],
)
def test_a_sensors_own_limit_counts_unless_one_is_set(own, limit, temperature, vetoed):
    """Some chips work at 100 °C, some must not reach 85."""
    decision = outcome(
        device={"temperature": temperature, "temperature_limit": own},
        limits={"max_temperature": limit},
    )
    assert (ON_DEVICE in decision.vetoes) is vetoed


@pytest.mark.parametrize("reading", ["temperature", "memory_pressure", "battery"])
def test_a_reading_that_is_no_number_is_no_veto(reading):
    """NaN is neither above nor below a limit."""
    assert outcome(device={reading: float("nan")}).vetoes == {}


@pytest.mark.parametrize("low_power_mode", [False, None])
def test_only_an_active_low_power_mode_vetoes(low_power_mode):
    """One that is off or not present is no constraint."""
    assert outcome(device={"low_power_mode": low_power_mode}).vetoes == {}


@pytest.mark.parametrize("mode", [Mode.PREFER_IN_CLOUD, Mode.ONLY_IN_CLOUD])
def test_cloud_modes_choose_the_cloud(mode):
    """If it may answer."""
    assert decided(request={"mode": mode}) == (IN_CLOUD, Reason.PREFERRED)


@pytest.mark.parametrize(
    ("mode", "changes", "source"),
    [
        (Mode.PREFER_ON_DEVICE, {"device": {"battery": 0.1}}, IN_CLOUD),
        (Mode.PREFER_IN_CLOUD, {"cloud": {"address": None}}, ON_DEVICE),
    ],
)
def test_other_source_replaces_a_vetoed_one(mode, changes, source):
    """If the preferred source may not answer, the other one does."""
    assert decided(request={"mode": mode}, **changes) == (source, Reason.OTHER_VETOED)


def test_number_of_tokens_that_nobody_gave_need_not_fit():
    """On neither source: one is enough; with a number that was given, all must."""
    long = {"prompt_tokens": 120, "max_tokens": 128}
    given = outcome(request=long)
    assert veto_codes(given) == dict.fromkeys((ON_DEVICE, IN_CLOUD), VetoCode.CONTEXT_WINDOW)
    assert veto_codes(outcome(request=long | {"max_tokens_given": False})) == {}
    full = {"prompt_tokens": 128, "max_tokens": 128, "max_tokens_given": False}
    refused = outcome(request=full)
    assert veto_codes(refused) == dict.fromkeys((ON_DEVICE, IN_CLOUD), VetoCode.CONTEXT_WINDOW)
    assert "the prompt's 128 tokens fill the context window" in refused.vetoes[IN_CLOUD].detail
