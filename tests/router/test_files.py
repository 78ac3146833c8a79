"""Files and folders around a router: a user without a home, relative paths, odd caches."""

import os
from pathlib import Path

import pytest

from edgewise import CloudSecurity, ConfigurationError, DeviceState, Router
from edgewise.cli.config import load_config
from edgewise_edge.store.cache_folder import NOWHERE, cache_folder
from edgewise_edge.store.catalog import BUNDLED
from tests.edge.test_cache_folder import no_user


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container, with a user id that it does not know."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_user)


def generate() -> str:
    """A few tokens, on a device of which nothing is known."""
    with Router(device=DeviceState, threads=1) as router:
        return router.generate("the", max_tokens=3, seed=1).text


@pytest.mark.usefixtures("no_home")
def test_user_without_a_home_gets_an_answer() -> None:
    """Nothing is kept, and nothing is read."""
    assert cache_folder() == NOWHERE
    assert generate()
    assert load_config().file is None


@pytest.mark.parametrize("home", ["/nonexistent", "/proc/none", "", "relative", "/dev/null"])
def test_home_that_cannot_be_used(
    home: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Nothing is written to the working directory in its place."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/none")
    assert generate()
    assert load_config().file is None
    assert not list(tmp_path.iterdir())


def test_change_of_the_working_directory_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Relative paths are those of when the object was made."""
    monkeypatch.chdir(BUNDLED)
    security = CloudSecurity(root_certificates="ca.pem")
    with Router(Path("tales"), device=DeviceState, threads=1) as router:
        monkeypatch.chdir(tmp_path)
        assert router.generate("the", max_tokens=3).text
    assert security.root_certificates == BUNDLED / "ca.pem"


@pytest.mark.parametrize("lay", [os.mkfifo, os.mkdir, Path.touch])
def test_caches_may_hold_anything(
    lay: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Every file of the cache folder is laid anew as something else, and the answer is the same."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = generate()
    files = [path for path in (tmp_path / "edgewise").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".xnnpack"}
    for path in files:
        path.unlink()
        lay(path)
    monkeypatch.setattr("edgewise_edge.store.passed._in_this_process", set())
    assert generate() == text


def test_config_file_that_is_a_pipe_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Opening the user's own would wait for a writer for good."""
    monkeypatch.delenv("EDGEWISE_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "edgewise").mkdir()
    os.mkfifo(tmp_path / "edgewise" / "config.toml")
    with pytest.raises(ConfigurationError, match="not a regular file"):
        load_config()
