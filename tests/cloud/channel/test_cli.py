"""`edgewise-cloud channel`: what it prints, and one line for whatever is wrong."""

import fcntl
import json
from pathlib import Path

import pytest

from edgewise_cloud.channel import repository as repository_module
from tests.cloud.channel.conftest import Channel, NewDevice
from tests.cloud.conftest import FullDisk
from tests.support.command_line import RunCommand


def test_a_new_channel_says_what_devices_get_and_what_comes_next(
    tmp_path: Path, run_command: RunCommand
) -> None:
    """The root and its hash, the keys, and the command that publishes."""
    done = run_command("channel", "init", tmp_path / "new", "--root-keys", "3")
    assert done.returncode == 0, done.stderr
    for text in ("1.root.json", "sha256", "root-3.pem", "Move the 3 root keys off this machine"):
        assert text in done.stdout
    assert f"next: edgewise-cloud publish MODEL_FOLDER --channel {tmp_path / 'new'}" in done.stderr
    assert (tmp_path / "new-keys" / "root-3.pem").exists()


def test_days_until_expiry_are_options_and_stay(tmp_path: Path, run_command: RunCommand) -> None:
    """A refresh needs no options to sign for as long again."""
    days = {"root": 100, "targets": 50, "snapshot": 20, "timestamp": 2}
    options = [part for role, count in days.items() for part in (f"--{role}-days", str(count))]
    folder = tmp_path / "channel"
    assert run_command("channel", "init", folder, *options).returncode == 0
    assert run_command("channel", "refresh", folder, "--role", "targets").returncode == 0
    shown = json.loads(run_command("channel", "show", folder, "--json").stdout)
    left = {role: each["days_left"] for role, each in shown["roles"].items()}
    assert left == pytest.approx(days, abs=0.1)
    assert {role: each["version"] for role, each in shown["roles"].items()} == {
        "root": 1,
        "targets": 2,
        "snapshot": 2,
        "timestamp": 2,
    }


def test_revoking_and_rolling_out_reach_devices(
    channel: Channel, new_device: NewDevice, run_command: RunCommand
) -> None:
    """As signed fields of the index."""
    channel.add("aaaa")
    channel.add("bbbb")
    keys = ["--keys", channel.keys]
    done = run_command("channel", "rollout", channel.folder, "bbbb", "12.5", *keys)
    assert done.stdout == "bbbb is offered to 12.5 % of devices\n"
    done = run_command("channel", "revoke", channel.folder, "aaaa", "--reason", "rude", *keys)
    assert done.stdout == "aaaa is revoked: rude\n"
    first, second = new_device(channel).revisions()
    assert (first["revoked"], first["rollout"]) == ("rude", 100)
    assert (second["revoked"], second["rollout"]) == ("", 12.5)
    shown = run_command("channel", "show", channel.folder, *keys).stdout
    assert "REVOKED: rude" in shown
    assert "for 12.5 % of devices" in shown


def test_what_cron_does_not_renew_is_warned_of(tmp_path: Path, run_command: RunCommand) -> None:
    """On standard error, where cron mails it, and so are keys that others can read."""
    folder = tmp_path / "channel"
    run_command("channel", "init", folder, "--root-days", "20", "--targets-days", "31")
    done = run_command("channel", "refresh", folder)
    (warning,) = done.stderr.splitlines()
    assert warning.startswith("note: root expires in 20 days: renew it with")
    assert f"channel refresh {folder} --role root" in warning
    (tmp_path / "channel-keys/timestamp.pem").chmod(0o644)
    done = run_command("channel", "refresh", folder, "--role", "root", "--json")
    assert "other users can read" in done.stderr
    assert "timestamp.pem: chmod 600 it" in done.stderr
    assert json.loads(done.stdout)["days_left"]["root"] == 20


def test_a_revision_of_two_models_needs_a_name(channel: Channel, run_command: RunCommand) -> None:
    """The error lists them."""
    channel.add("aaaa", "tales")
    channel.add("aaaa", "poems")
    revoke = ["channel", "revoke", channel.folder, "aaaa", "--reason", "x", "-k", channel.keys]
    done = run_command(*revoke)
    assert done.returncode == 2
    assert "is of tales and poems; choose one of them with --name" in done.stderr
    assert run_command(*revoke, "--name", "poems").returncode == 0
    index = channel.read().index
    assert [index.find(name, "aaaa").revoked for name in ("tales", "poems")] == ["", "x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["refresh", "{tmp}/none"], "is no channel"),
        (["show", "{tmp}"], "is no channel"),
        (["init", "{channel}"], "is a channel already"),
        (["init", "{tmp}"], "is not an empty folder"),
        (["init", "{tmp}/new", "--keys", "{tmp}/new/keys"], "inside the channel"),
        (["init", "{tmp}/new", "--keys", "{keys}"], "never overwritten"),
        (["init", "{tmp}/new", "--root-threshold", "3"], "--root-threshold is 3, more than the 2"),
        (["init", "/proc/new", "--keys", "{tmp}/k"], "cannot be written"),
        (["refresh", "{channel}"], "'snapshot' must be signed with 1 of its 1 keys, and 0"),
        (["refresh", "{channel}", "--keys", "{channel}"], "inside the channel"),
        (["refresh", "{channel}", "--role", "boss"], "'boss' is none of root, targets"),
        (["rotate-keys", "{channel}", "--role", "timestamp"], "'root' must be signed"),
        (["revoke", "{channel}", "zzzz", "--reason", "x", "--keys", "{keys}"], "no model of this"),
        (
            ["rollout", "{channel}", "zzzz", "1", "--name", "t", "--keys", "{keys}"],
            "'t' has no revision 'zzzz'",
        ),
        (["revoke", "{channel}", "zzzz", "--reason", "", "--keys", "{keys}"], "--reason is ''"),
    ],
)
def test_whatever_is_wrong_is_one_line(
    channel: Channel, run_command: RunCommand, arguments: list[str], message: str
) -> None:
    """With what to do about it, and no traceback."""
    places = {"tmp": channel.folder.parent, "channel": channel.folder, "keys": channel.keys}
    done = run_command("channel", *(each.format(**places) for each in arguments))
    assert done.returncode in {1, 2}
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_locked_channel_is_waited_for_and_then_said(
    channel: Channel, run_command: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the number of the process that has it."""
    monkeypatch.setattr(repository_module, "LOCK_TIMEOUT", 0.1)
    with (channel.folder / ".lock").open("w") as lock:
        lock.write("4711")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = run_command("channel", "refresh", channel.folder, "--keys", channel.keys)
    assert done.returncode == 1
    assert "is locked: process 4711 changes it" in done.stderr


def test_a_full_disk_is_one_line(
    channel: Channel, run_command: RunCommand, full_disk: FullDisk
) -> None:
    """Devices see what they saw."""
    with full_disk(50):
        done = run_command("channel", "refresh", channel.folder, "--keys", channel.keys)
    assert done.returncode == 1
    assert "cannot be written: File too large; devices see what they saw" in done.stderr
    assert channel.read().roles.timestamp.signed.version == 1
