"""Running the command line in this process, without the user's files and environment."""

import sys

import pytest

from edgewise.cli import main
from tests.support.command_line import Completed


@pytest.fixture
def edgewise(tmp_path, monkeypatch, capsys):
    """A function that runs a command; the user's folders are below `tmp_path`."""
    for name in ("CLOUD", "CLOUD_TOKEN", "CONFIG"):
        monkeypatch.delenv(f"EDGEWISE_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["edgewise", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Completed(int(ended.value.code or 0), *capsys.readouterr())

    return run


@pytest.fixture
def write_config(tmp_path):
    """A function that writes the user's config file and returns its path."""

    def write(text):
        file = tmp_path / "config" / "edgewise" / "config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    return write
