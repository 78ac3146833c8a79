"""Which revision a device takes, and why not the others."""

import hashlib
from typing import Any

import pytest

from edgewise.delivery.update.check import Device, UpdateCheck, choose, share
from edgewise_edge.installed.channel_index import IndexedRevision
from edgewise_edge.installed.state import ModelState
from tests.support.signed_channel import revision

DEVICE = Device(
    memory=1000,
    versions={"edgewise": "0.2.1", "litert": "2.3.0"},
    device_id=lambda: "device",
    vocabulary="0" * 64,
)


def sha256(revision: str) -> str:
    """Of its model file."""
    return hashlib.sha256(revision.encode()).hexdigest()


def check(
    *changes: dict[str, Any],
    current: str | None = "r1",
    state: ModelState | None = None,
    force: bool = False,
) -> UpdateCheck:
    """Of r1, and a further revision for each of the changes."""
    entries = [revision(number, **fields) for number, fields in enumerate(({}, *changes), 1)]
    revisions = [IndexedRevision(**entry) for entry in entries]
    return choose(
        "tales",
        revisions,
        state or ModelState(),
        current,
        DEVICE,
        lambda found: sha256(found.revision),
        force=force,
    )


def newest(*changes: dict[str, Any], **options: Any) -> str | None:
    """The revision to update to."""
    found = check(*changes, **options).newest
    return found.revision if found else None


def test_the_newest_is_taken() -> None:
    """Nothing where it is in use; an older one never."""
    assert newest({}, {}) == "r3"
    assert newest({}, {}, current="r3") is None
    assert newest({}, {}, current=None) == "r3"
    assert newest({}, {}, current="unknown") == "r3"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revoked": "nonsense"}, "revoked: nonsense"),
        ({"vocabulary": "1" * 64}, "another vocabulary than the tales on this device"),
        ({"memory": 1001}, "needs 0 MB of memory"),
        ({"requires": {"edgewise": "0.3"}}, "needs edgewise 0.3; here is 0.2.1"),
        ({"requires": {"litert": "2.10"}}, "needs litert 2.10; here is 2.3.0"),
        ({"requires": {"gpu": "1"}}, "needs gpu 1; here is none that is known"),
        ({"rollout": 0}, "rolled out to 0 % of devices"),
    ],
)
def test_one_that_is_not_for_this_device_is_passed_over(
    change: dict[str, Any], reason: str
) -> None:
    """The newest of the others is taken, and the reason is told."""
    found = check({}, change)
    assert found.newest is not None
    assert found.newest.revision == "r2"
    assert reason in found.others["r3"]
    assert reason in found.detail


@pytest.mark.parametrize("requires", [{"edgewise": "0.2"}, {"edgewise": "0.2.1.0", "litert": "2"}])
def test_what_is_required_and_here(requires: dict[str, str]) -> None:
    """Versions are compared as numbers."""
    assert newest({"requires": requires}) == "r2"


def test_one_that_failed_before_is_not_taken_again() -> None:
    """Whatever it is called."""
    state = ModelState(failed={sha256("r3"): "it crashed"})
    found = check({}, {}, state=state)
    assert found.newest is not None
    assert found.newest.revision == "r2"
    assert found.others == {"r3": "failed on this device before: it crashed"}


def test_one_that_failed_before_may_be_forced() -> None:
    """Not what is revoked, or not for this device."""
    state = ModelState(failed={sha256(f"r{number}"): "it crashed" for number in (2, 3, 4)})
    changes = ({}, {"revoked": "nonsense"}, {"requires": {"gpu": "1"}})
    assert newest(*changes, state=state) is None
    assert newest(*changes, state=state, force=True) == "r2"


def test_a_pinned_model_takes_none() -> None:
    """All newer ones have the reason."""
    found = check({}, {}, state=ModelState(active="r1", pinned="r1"))
    assert found.newest is None
    assert set(found.others.values()) == {"the model is pinned to r1"}


def test_a_revoked_one_may_be_replaced_by_an_older_one() -> None:
    """The reason is told."""
    found = check({"revoked": "nonsense"}, current="r2")
    assert found.revoked == "nonsense"
    assert found.newest is not None
    assert found.newest.revision == "r1"


def test_a_share_of_devices_takes_what_is_rolled_out() -> None:
    """Other devices for another revision; the id alone says which."""
    devices = [f"device-{number}" for number in range(2000)]
    first, second = ({d for d in devices if share(d, r) < 10} for r in ("r1", "r2"))
    assert 140 < len(first) < 260
    assert 140 < len(second) < 260
    assert len(first & second) < 60
    assert first == {d for d in devices if share(d, "r1") < 10}
