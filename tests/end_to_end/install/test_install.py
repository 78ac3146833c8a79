"""Fresh environments, made by the words of docs/install.md."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UV = Path(sys.executable).with_name("uv")

CODE = """
import importlib.util, json, sys
import edgewise, edgewise_edge
from edgewise import Router
with Router() as router:
    chunks = list(router.stream("Once upon a time", max_tokens=8, seed=1))
heavy = ["tensorflow", "keras", "keras_hub", "edgewise_cloud"]
print(json.dumps({
    "found": [name for name in heavy if importlib.util.find_spec(name)],
    "grpc": "grpc" in sys.modules,
    "text": "".join(chunk.text for chunk in chunks),
    "complete": edgewise_edge.complete("Once upon a time", max_tokens=8, seed=1).text,
    "where": edgewise.__file__,
    "version": edgewise.__version__,
}))
"""


def command(word: str) -> str:
    """The first command of docs/install.md that installs, with this word in it."""
    lines = (ROOT / "docs/install.md").read_text().splitlines()
    return next(line for line in lines if line.startswith("pip install") and word in line)


def install(command: str, environment: Path, folder: Path, **variables: str | Path) -> Path:
    """Run a command that installs, in a fresh environment; returns the environment's Python.

    uv does what pip would, faster.
    """
    subprocess.run([UV, "--quiet", "venv", "--python", sys.executable, environment], check=True)
    python = environment / "bin/python"
    uv = shlex.join([str(UV), "--quiet", "pip", "install", "--python", str(python)])
    subprocess.run(
        command.replace("pip install", uv),
        shell=True,
        check=True,
        cwd=folder,
        env=os.environ | {name: str(value) for name, value in variables.items()},
    )
    return python


def check(python: Path) -> None:
    """The three lines run there, on the device, with nothing heavy and no gRPC."""
    folder = python.parents[1]
    done = subprocess.run(
        [python, "-I", "-c", CODE], capture_output=True, text=True, check=True, cwd=folder
    )
    found = json.loads(done.stdout)
    assert found["found"] == []
    assert found["grpc"] is False
    assert found["text"] == found["complete"] != ""
    assert Path(found["where"]).is_relative_to(folder)
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["version"])


def test_wheels_install_with_their_constraints(dist: Path, tmp_path: Path) -> None:
    """They run as the README promises, in the versions that were tested."""
    python = install(command("dist/device.txt"), tmp_path / "environment", dist.parent)
    check(python)
    frozen = subprocess.run(
        [UV, "pip", "freeze", "--python", python], capture_output=True, text=True, check=True
    )
    third_party = {line for line in frozen.stdout.splitlines() if not line.startswith("edgewise")}
    locked = {line.split(" ;")[0] for line in (dist / "device.txt").read_text().splitlines()}
    assert third_party <= locked


def test_a_checkout_installs(dist: Path, tmp_path: Path) -> None:
    """Held to the tested versions here, so that no new release of another project fails it."""
    python = install(
        command("./proto"), tmp_path / "environment", ROOT, UV_CONSTRAINT=dist / "device.txt"
    )
    check(python)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="newer Pythons need newer packages")
def test_the_lower_bounds_hold(tmp_path: Path) -> None:
    """A checkout runs on the oldest versions that it declares."""
    check(install(command("./proto"), tmp_path / "old", ROOT, UV_RESOLUTION="lowest-direct"))


def test_no_document_installs_our_names_from_an_index() -> None:
    """They are not published there: whoever took the names would be installed."""
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    lines = [line for path in documents for line in path.read_text().splitlines()]
    installs = [line for line in lines if re.search(r"pip install|uv add|uvx|pipx", line)]
    assert installs
    for line in installs:
        assert not re.search(r"[\s'\"]edgewise(-\w+)?(\[\w+\])?([\s`'\"=<>~]|$)", line), line
