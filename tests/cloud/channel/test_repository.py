"""A channel's folder: signed, consistent at every step of a change, and changed by one at a time."""

import json
import multiprocessing
import os
import signal
import stat
from pathlib import Path

import pytest
from tuf.api.exceptions import RepositoryError

from edgewise_cloud.channel import repository as repository_module
from edgewise_cloud.channel.create import create_channel
from edgewise_cloud.channel.keys import KeyRing
from edgewise_cloud.channel.metadata import CONTENT, ONLINE, RoleName
from edgewise_cloud.channel.repository import Repository, locked
from edgewise_cloud.channel.rotate import rotate_keys
from edgewise_cloud.errors import PublishError, PublishFailedError
from tests.cloud.channel.conftest import Channel, NewDevice
from tests.cloud.conftest import FullDisk


def test_a_device_follows_a_new_channel(channel: Channel, new_device: NewDevice) -> None:
    """With TUF's own client over HTTP; the index has no models."""
    assert json.loads(new_device(channel).read("index.json")) == {"format": 1, "models": {}}


def test_private_keys_are_readable_by_their_owner_only(channel: Channel) -> None:
    """And none lies in what is served."""
    names = {path.name for path in channel.keys.iterdir()}
    assert names == {"root-1.pem", "root-2.pem", "targets.pem", "snapshot.pem", "timestamp.pem"}
    for path in channel.keys.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not list(channel.folder.rglob("*.pem"))
    served = b"".join(path.read_bytes() for path in channel.folder.rglob("*") if path.is_file())
    assert b"PRIVATE" not in served


def test_served_files_can_be_read_by_a_server_of_another_user(channel: Channel) -> None:
    """Whatever the mode of temporary files."""
    for path in channel.folder.rglob("*"):
        assert path.stat().st_mode & stat.S_IROTH, path


@pytest.mark.parametrize("inside", ["", "keys", "a/b", "../channel/keys", "link/keys"])
def test_keys_inside_the_channel_are_refused(tmp_path: Path, inside: str) -> None:
    """However the path is written; nothing is made."""
    folder = tmp_path / "channel"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    keys = tmp_path / inside if inside.startswith("link") else folder / inside
    with pytest.raises(PublishError, match="private keys"):
        create_channel(folder, keys)
    assert not any(folder.iterdir())


def test_a_threshold_above_the_number_of_keys_is_refused(tmp_path: Path) -> None:
    """Before anything is made."""
    with pytest.raises(PublishError, match="more than the 2"):
        create_channel(tmp_path / "channel", tmp_path / "keys", root_keys=2, root_threshold=3)
    assert not any(tmp_path.iterdir())


def test_keys_and_channels_are_never_overwritten(channel: Channel, tmp_path: Path) -> None:
    """The error names what is in the way."""
    with pytest.raises(PublishError, match="is a channel already"):
        create_channel(channel.folder, tmp_path / "others")
    with pytest.raises(PublishError, match="never overwritten"):
        create_channel(tmp_path / "other", channel.keys)


class Stopped(BaseException):
    """The process is killed here."""


def test_a_device_sees_the_old_state_or_the_new_one_wherever_a_change_stops(
    channel: Channel, new_device: NewDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before and after each write; a fresh device and one that saw the old state agree.

    The next change then works as if nothing had happened.
    """
    channel.add("first")
    device = new_device(channel)
    assert len(device.revisions()) == 1
    write = repository_module.durable_write
    writes, stop_at, half = 0, -1, False

    def stopping(path: Path, data: bytes, mode: int = 0o644) -> None:
        nonlocal writes
        writes += 1
        if writes == stop_at:
            if half:
                path.with_name(f"partial-{path.name}").write_bytes(data[: len(data) // 2])
            raise Stopped
        write(path, data, mode)

    monkeypatch.setattr(repository_module, "durable_write", stopping)
    for stop_at in (1, 2, 3, 4):  # index, targets, snapshot, timestamp
        for half in (False, True):
            writes = 0
            with pytest.raises(Stopped):
                channel.add(f"never-{stop_at}-{half}")
            assert [each["revision"] for each in device.revisions()] == ["first"]
            assert len(new_device(channel).revisions()) == 1
    stop_at = 0
    channel.add("second")
    assert [each["revision"] for each in device.revisions()] == ["first", "second"]


def test_a_full_disk_changes_nothing_for_devices(
    channel: Channel, new_device: NewDevice, full_disk: FullDisk
) -> None:
    """And is one sentence that says what to do."""
    channel.add("first")
    device = new_device(channel)
    for size in (0, 300, 600):
        with full_disk(size), pytest.raises(PublishFailedError, match="cannot be written"):
            channel.add("second")
        assert len(device.revisions()) == 1
    channel.add("second")
    assert len(device.revisions()) == 2


def _change_without_end(channel: Channel) -> None:
    for number in range(10_000):
        channel.add(f"r{number}")
        if number % 5 == 4:
            rotate_keys(channel.read(), channel.ring, (RoleName.TIMESTAMP, RoleName.TARGETS))


def test_devices_read_on_while_a_channel_changes_and_after_a_kill(
    channel: Channel, new_device: NewDevice
) -> None:
    """No read fails, what they see only grows, and the next change goes on from there."""
    device, counts = new_device(channel), []
    other = multiprocessing.get_context("fork").Process(target=_change_without_end, args=(channel,))
    other.start()
    try:
        while len(counts) < 20 or counts[-1] < 10:
            counts.append(len(device.revisions()))
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    assert counts == sorted(counts)
    seen = len(device.revisions())
    channel.add("last")
    assert len(device.revisions()) == len(new_device(channel).revisions()) == seen + 1


def _hold(folder: Path, ready: "multiprocessing.synchronize.Event") -> None:
    with locked(folder):
        ready.set()
        signal.pause()


def test_one_process_changes_a_channel_at_a_time(channel: Channel) -> None:
    """The error names the other one; the lock of a killed one is free at once."""
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    other = context.Process(target=_hold, args=(channel.folder, ready))
    other.start()
    try:
        assert ready.wait(10)
        with (
            pytest.raises(PublishFailedError, match=f"process {other.pid} changes it"),
            locked(channel.folder, timeout=0.1),
        ):
            pytest.fail("two hold the lock")
    finally:
        os.kill(other.pid, signal.SIGKILL)
        other.join()
    with locked(channel.folder, timeout=0.1):
        pass


def test_what_somebody_else_has_changed_is_not_signed(channel: Channel) -> None:
    """Whoever can write to the server's folder cannot have a revision signed by the publisher."""
    channel.add("first")
    index = channel.read().path_of("index.json")
    paths = [
        *channel.folder.glob("metadata/2.*"),
        channel.folder / "metadata/timestamp.json",
        index,
    ]
    assert len(paths) == 4
    for path in paths:
        good = path.read_bytes()
        path.write_bytes(good.replace(b"1", b"3"))
        with pytest.raises(PublishError, match=r"changed by somebody|damaged"):
            channel.read()
        path.write_bytes(good)
    channel.read()


def test_cron_needs_only_the_online_keys(channel: Channel, new_device: NewDevice) -> None:
    """The root's and the targets' may be elsewhere; an error says which are missing."""
    for name in ("root-1.pem", "root-2.pem", "targets.pem"):
        (channel.keys / name).rename(channel.keys.parent / name)
    repository = channel.read()
    before = repository.roles.timestamp.signed.expires
    repository.commit(repository.signers(channel.ring, ONLINE))
    assert channel.read().roles.timestamp.signed.expires >= before
    assert new_device(channel).revisions() == []
    with pytest.raises(PublishError, match="'targets' must be signed with 1 of its 1 keys, and 0"):
        channel.read().signers(channel.ring, CONTENT)


def test_a_threshold_needs_that_many_keys(tmp_path: Path) -> None:
    """From several folders, as of two sticks."""
    create_channel(tmp_path / "channel", tmp_path / "keys", root_keys=3, root_threshold=2)
    stick = tmp_path / "stick"
    stick.mkdir()
    for name in ("root-2.pem", "root-3.pem"):
        (tmp_path / "keys" / name).rename(stick / name)
    repository = Repository.read(tmp_path / "channel")
    with pytest.raises(PublishError, match="2 of its 3 keys, and 1 of them is in"):
        repository.signers(KeyRing.read([tmp_path / "keys"]), [RoleName.ROOT])
    ring = KeyRing.read([tmp_path / "keys", stick])
    assert len(repository.signers(ring, [RoleName.ROOT])[RoleName.ROOT]) == 3


def test_an_old_state_replayed_is_refused(channel: Channel, new_device: NewDevice) -> None:
    """By a device that has seen the new one."""
    channel.add("first")
    old = (channel.folder / "metadata/timestamp.json").read_bytes()
    channel.add("second")
    device = new_device(channel)
    assert len(device.revisions()) == 2
    (channel.folder / "metadata/timestamp.json").write_bytes(old)
    with pytest.raises(RepositoryError, match="must be >="):
        device.revisions()
