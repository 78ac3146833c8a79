"""The state of a model, without files."""

import json

import pytest

from edgewise_edge.installed.state import MAX_FAILED, ModelState, NewerFormatError, Probation
from edgewise_edge.store.active import MAX_STATE_BYTES

SHA256 = "a" * 64


def test_a_state_survives_its_json() -> None:
    """All of it."""
    state = ModelState(
        active="two",
        previous="one",
        staged="three",
        failed={SHA256: "it crashed"},
        probation=Probation("two", 3, deaths=1),
    )
    assert ModelState.parse(state.to_json()) == state


@pytest.mark.parametrize(
    "change",
    [
        {"active": "../../etc"},
        {"active": "a%2Fb/.."},
        {"active": "STATE.json"},
        {"active": 3},
        {"active": "\0"},
        {"staged": "x" * 65},
        {"failed": {"no sha": "reason"}},
        {"failed": [SHA256]},
        {"failed": {SHA256: 5}},
        {"failed": {f"{number:064x}": "" for number in range(MAX_FAILED + 1)}},
        {"probation": {"revision": "other", "generations_left": 1}},
        {"probation": {"revision": "one", "generations_left": 0}},
        {"probation": {"revision": "one", "generations_left": True}},
        {"probation": {"revision": "one", "generations_left": 1, "deaths": -1}},
        {"probation": {"revision": "one", "generations_left": 1, "deaths": "1"}},
        {"probation": "one"},
        {"unknown": 1},
    ],
)
def test_an_invalid_state_is_no_state(change: dict[str, object]) -> None:
    """Whatever is in the file."""
    raw = json.loads(ModelState(active="one").to_json())
    with pytest.raises(ValueError, match=r"it |Expecting"):
        ModelState.parse(json.dumps(raw | change))


def test_a_state_of_before_deaths_were_counted() -> None:
    """There were none."""
    raw = json.loads(ModelState(active="one", probation=Probation("one", 3)).to_json())
    del raw["probation"]["deaths"]
    assert ModelState.parse(json.dumps(raw)).probation == Probation("one", 3)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "[" * 100_000])
def test_other_json_is_no_state(text: str) -> None:
    """Nor are bytes that are no JSON."""
    with pytest.raises(ValueError, match=r"it |Expecting"):
        ModelState.parse(text)


def test_another_version_is_told_from_damage() -> None:
    """So that its file is left alone."""
    with pytest.raises(NewerFormatError):
        ModelState.parse('{"format": 2, "future": 1}')


def test_the_way_back_leads_past_a_revision_that_did_not_prove_itself() -> None:
    """Two updates in a row, the second of which fails."""
    state = ModelState(active="good").stage("unproven").take_staged().stage("bad").take_staged()
    assert (state.active, state.previous) == ("bad", "good")
    assert state.roll_back().active == "good"


def test_an_unproven_revision_is_a_way_back_where_there_is_no_other() -> None:
    """Nothing is bundled under that name: better that one than none."""
    first = ModelState(staged="first").take_staged(has_bundled=False)
    state = first.stage("bad").take_staged(has_bundled=False)
    assert state.roll_back().active == "first"
    assert first.stage("bad").take_staged().roll_back().active is None


def test_probation_ends_after_its_generations() -> None:
    """The previous revision stays the way back."""
    state = ModelState(active="one").stage("two").take_staged(generations=2)
    state = state.generation_passed()
    assert state.probation == Probation("two", 1)
    state = state.generation_passed()
    assert (state.active, state.previous, state.probation) == ("two", "one", None)


def test_old_failures_are_forgotten() -> None:
    """The newest are kept, and a reason is cut to a line or two."""
    state = ModelState()
    for number in range(MAX_FAILED + 5):
        state = state.fail(f"{number:064x}", "😀" * 1000)
    assert len(state.failed) == MAX_FAILED
    assert f"{MAX_FAILED + 4:064x}" in state.failed
    assert len(state.to_json().encode()) < MAX_STATE_BYTES
    assert len(ModelState.parse(state.to_json()).failed[f"{5:064x}"]) < 1000
