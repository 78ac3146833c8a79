"""New keys: devices follow the chain of roots, and old keys are worth nothing afterwards."""

from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from edgewise_cloud.channel import repository as repository_module
from edgewise_cloud.channel.changes import refresh
from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT, ONLINE, RoleName
from edgewise_cloud.channel.rotate import rotate_keys
from edgewise_cloud.errors import PublishError
from tests.cloud.channel.conftest import Channel, NewDevice


def rotate(channel: Channel, *roles: RoleName) -> tuple[Path, ...]:
    """The files of the old keys, which are moved away."""
    done = rotate_keys(channel.read(), channel.ring, roles)
    for path in done.old:
        path.rename(path.with_suffix(".old"))
    return done.old


@pytest.mark.parametrize("roles", [*([role] for role in RoleName), list(RoleName)])
def test_a_device_with_the_first_root_follows_new_keys(
    channel: Channel, new_device: NewDevice, roles: list[RoleName]
) -> None:
    """Three times over; one that was there all the time, and a fresh one. Old keys are not needed."""
    device = new_device(channel)
    for number in range(3):
        channel.add(f"r{number}")
        assert len(device.revisions()) == number + 1
        old = rotate(channel, *roles)
        assert len(old) == sum(2 if role is RoleName.ROOT else 1 for role in roles)
        assert len(device.revisions()) == number + 1
    channel.add("last")
    assert len(device.revisions()) == len(new_device(channel).revisions()) == 4


def test_old_keys_sign_nothing_any_more(channel: Channel) -> None:
    """Not even all of them."""
    old = rotate(channel, *RoleName)
    kept = channel.keys.parent / "old"
    kept.mkdir()
    for path in old:
        path.with_suffix(".old").rename(kept / path.name)
    with pytest.raises(PublishError, match="and 0 of them are in"):
        channel.read().signers(KeyRing.read([kept]), CONTENT)


def test_a_new_root_is_signed_by_old_and_new_keys(channel: Channel) -> None:
    """As TUF's clients demand."""
    rotate(channel, RoleName.ROOT)
    roots = [
        Metadata.from_file(str(channel.folder / f"metadata/{version}.root.json"))
        for version in (1, 2)
    ]
    for root in roots:
        root.signed.verify_delegate("root", roots[1].signed_bytes, roots[1].signatures)
    assert set(roots[0].signed.roles["root"].keyids).isdisjoint(
        roots[1].signed.roles["root"].keyids
    )


def test_a_lost_key_is_replaced(channel: Channel, new_device: NewDevice) -> None:
    """The root's keys suffice to replace an online one that nobody has."""
    device = new_device(channel)
    assert device.revisions() == []
    (channel.keys / "timestamp.pem").unlink()
    with pytest.raises(PublishError, match="'timestamp' must be signed"):
        refresh(channel.read(), channel.ring, ONLINE)
    rotate_keys(channel.read(), channel.ring, (RoleName.TIMESTAMP,))
    channel.add("first")
    assert len(device.revisions()) == 1


def test_without_root_keys_nothing_is_replaced(channel: Channel) -> None:
    """Nor made: whoever takes the server's keys cannot lock the owner out."""
    for name in ("root-1.pem", "root-2.pem"):
        (channel.keys / name).rename(channel.keys.parent / name)
    before = sorted([*channel.keys.iterdir(), *channel.folder.rglob("*")])
    with pytest.raises(PublishError, match="'root' must be signed with 1 of its 2 keys"):
        rotate_keys(channel.read(), channel.ring, (RoleName.TIMESTAMP,))
    assert sorted([*channel.keys.iterdir(), *channel.folder.rglob("*")]) == before


class Stopped(BaseException):
    """The process is killed here."""


def test_a_rotation_that_stops_anywhere_leaves_a_channel_that_works(
    channel: Channel, new_device: NewDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before each of its writes; old and fresh devices read on, and the next rotation succeeds."""
    channel.add("first")
    device = new_device(channel)
    write = repository_module.durable_write
    writes, stop_at = 0, 0

    def stopping(path: Path, data: bytes, mode: int = 0o644) -> None:
        nonlocal writes
        writes += 1
        if writes == stop_at:
            raise Stopped
        write(path, data, mode)

    monkeypatch.setattr(repository_module, "durable_write", stopping)
    for stop_at in range(1, 10):  # noqa: B007
        writes = 0
        try:
            rotate_keys(channel.read(), channel.ring, tuple(RoleName))
        except Stopped:
            assert len(device.revisions()) == len(new_device(channel).revisions()) == 1
        else:
            break
    assert writes == 4  # targets, snapshot, timestamp, root
    assert len(device.revisions()) == len(new_device(channel).revisions()) == 1


def test_a_root_is_renewed_with_the_same_keys(channel: Channel, new_device: NewDevice) -> None:
    """Once a year, with the stick at hand."""
    device = new_device(channel)
    refresh(channel.read(), channel.ring, (RoleName.ROOT, RoleName.TARGETS))
    assert device.revisions() == []
    roles = channel.read().roles
    assert [roles.of(role).signed.version for role in RoleName] == [2, 2, 2, 2]
