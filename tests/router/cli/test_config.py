"""The config file: what it may say, and what comes before it."""

import json
from pathlib import Path

import pytest

from edgewise import ConfigurationError
from edgewise.cli.config import config_keys, parse_config

FILE = Path("/etc/edgewise/config.toml")


def test_values_are_named_like_options():
    """Relative paths start at the file's folder; so does a model that is a path."""
    text = """
    cloud = "host:1"
    cloud-ca = "ca.pem"
    cloud-token-file = "/run/token"
    model = "./mine"
    mode = "only_on_device"
    min-battery = 1
    cloud-tls = true
    """
    assert parse_config(text, FILE) == {
        "cloud": "host:1",
        "cloud_ca": "/etc/edgewise/ca.pem",
        "cloud_token_file": "/run/token",
        "model": "/etc/edgewise/mine",
        "mode": "only_on_device",
        "min_battery": 1,
        "cloud_tls": True,
    }
    assert parse_config('model = "tales"', FILE) == {"model": "tales"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('clod = "x"', "unknown key 'clod'; did you mean 'cloud'?"),
        ("min_battery = 0.3", "unknown key 'min_battery'; did you mean 'min-battery'?"),
        ("[zzz]\nx = 1", "unknown key 'zzz'; valid keys: cloud, "),
        ("threads = true", "threads is true; it must be a whole number"),
        ("threads = 1.5", "threads is 1.5; it must be a whole number"),
        ("model = 3", "model is 3; it must be text in quotes"),
        ("cloud-ca = []", "cloud-ca is []; it must be a path in quotes"),
        ('cloud-tls = "yes"', 'cloud-tls is "yes"; it must be true or false'),
        ('min-battery = "30%"', 'min-battery is "30%"; it must be a number'),
        ('mode = "cloud"', 'mode is "cloud"; it must be one of prefer_on_device, '),
        ("mode = {}", "mode is {}; it must be one of prefer_on_device, "),
        ("cloud = ", "is not valid TOML: "),
        ("threads = " + "[" * 5000 + "]" * 5000, "is not valid TOML: "),
        ("threads = " + "[" * 400 + "]" * 400, "it must be a whole number"),
        ("threads = " + "9" * 5001, "is not valid TOML: "),
        ("threads = 0x" + "f" * 5001, "it must be a whole number of at most 64 bits"),
        ("min-battery = " + "9" * 400, "it must be a number of at most 64 bits"),
        ('cloud-ca = ""', 'cloud-ca is ""; it must be a path in quotes, not empty'),
        ('model = "a/\\u0000"', "it must be text in quotes, not empty and without null"),
        ('model = "~no-such-user/x"', "model is '~no-such-user/x'; there is no such home folder"),
    ],
)
def test_invalid_file_is_one_clear_error(text, words):
    """It names the file, the key, and what is valid."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(text, FILE)
    assert str(caught.value).startswith(str(FILE))
    assert words in str(caught.value)


@pytest.mark.parametrize("key", config_keys())
def test_every_key_has_a_type(key):
    """A date is a value of none of them."""
    with pytest.raises(ConfigurationError, match=f"{key} is .*; it must be "):
        parse_config(f"{key} = 2026-01-01", FILE)


def route(edgewise, *arguments):
    """The parsed output of `edgewise route`."""
    return json.loads(edgewise("route", "Once", "--json", *arguments).stdout)


def test_option_then_environment_then_file_then_default(edgewise, write_config, monkeypatch):
    """Each hides those after it."""

    def vetoes(*arguments):
        found = route(edgewise, "--battery", "0.5", "--on-battery", *arguments)["vetoes"]
        return [found[source] and found[source]["code"] for source in ("on_device", "in_cloud")]

    assert vetoes() == [None, "no_address"]
    write_config('min-battery = 0.6\ncloud = "127.0.0.1:9"')
    assert vetoes() == ["battery", None]
    assert vetoes("--min-battery", "0.4", "--offline") == [None, "offline"]
    monkeypatch.setenv("EDGEWISE_CLOUD", "nonsense")
    assert "'nonsense'" in edgewise("route", "a").stderr
    assert vetoes("--cloud", "127.0.0.1:9") == ["battery", None]


def test_token_of_the_environment_comes_before_the_file(edgewise, write_config, monkeypatch):
    """The file's is not even read."""
    write_config('cloud = "127.0.0.1:9"\ncloud-token-file = "missing"')
    assert "cannot read" in edgewise("route", "a").stderr
    monkeypatch.setenv("EDGEWISE_CLOUD_TOKEN", "abc")
    assert edgewise("route", "a").returncode == 0


def test_token_of_the_file_is_for_its_cloud_only(edgewise, write_config):
    """Another cloud gets neither it nor the certificates; a file without a cloud means any."""
    missing = 'cloud-token-file = "missing"\ncloud-ca = "missing"\n'
    write_config(missing + 'cloud = "127.0.0.1:9"')
    assert edgewise("route", "a", "--cloud", "127.0.0.1:9").returncode == 2
    assert edgewise("route", "a", "--cloud", "127.0.0.1:10").returncode == 0
    write_config(missing)
    assert edgewise("route", "a", "--cloud", "127.0.0.1:10").returncode == 2


def test_named_file_must_exist(edgewise, write_config, monkeypatch, tmp_path):
    """The user's own may be missing; a named one is used in its place."""
    write_config('cloud = "127.0.0.1:9"')
    monkeypatch.setenv("EDGEWISE_CONFIG", "/dev/null")
    assert route(edgewise)["vetoes"]["in_cloud"]["code"] == "no_address"
    monkeypatch.setenv("EDGEWISE_CONFIG", str(tmp_path / "none.toml"))
    done = edgewise("route", "a")
    assert done.returncode == 2
    assert "none.toml, which does not exist" in done.stderr


@pytest.mark.parametrize("name", ["HOME", "XDG_CONFIG_HOME"])
def test_folder_of_settings_may_be_no_folder(edgewise, monkeypatch, name):
    """As for users that have none."""
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv(name, "/dev/null")
    assert route(edgewise)["source"] == "on_device"


def test_home_that_does_not_exist(edgewise, monkeypatch):
    """Of the file that the environment names."""
    monkeypatch.setenv("EDGEWISE_CONFIG", "~no-such-user/x")
    done = edgewise("route", "a")
    assert done.returncode == 2
    assert "EDGEWISE_CONFIG is '~no-such-user/x'" in done.stderr


def test_byte_order_mark_is_ignored(edgewise, write_config):
    """Some editors write one."""
    write_config("\ufeffcloud = '127.0.0.1:9'")
    assert route(edgewise)["vetoes"]["in_cloud"] is None


def test_help_works_with_a_broken_file(edgewise, write_config):
    """The command itself does not."""
    write_config("cloud = ")
    assert "--max-tokens" in edgewise("generate", "-h").stdout
    for arguments in (["generate", "a"], ["bench"], ["doctor"], ["route", "a"]):
        done = edgewise(*arguments)
        assert done.returncode == 2
        assert "is not valid TOML" in done.stderr
    assert "--battery is 5" in edgewise("route", "a", "--battery", "5").stderr


@pytest.mark.parametrize("text", ["threads = 0", "min-battery = 30", "keep-alive = -1"])
def test_doctor_refuses_what_generate_would(edgewise, write_config, text):
    """It makes the same router."""
    file = write_config(text)
    done = edgewise("doctor")
    assert done.returncode == 2
    assert f"(set in {file})" in done.stderr


def test_value_out_of_range_names_the_file(edgewise, write_config):
    """Unless the command line has set the value."""
    file = write_config("threads = 0\nmin-battery = 30")
    done = edgewise("route", "a")
    assert f"For 30 % write 0.3 (set in {file})" in done.stderr
    assert f"(set in {file})" in edgewise("bench").stderr
    assert "set in" not in edgewise("bench", "--threads", "-1").stderr
