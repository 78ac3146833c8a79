"""The commands in docs/models.md, from a model folder to a device and back, as they are written there."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgewise_edge import Manifest
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.manifest import MODEL_FILE
from tests.support.command_line import run
from tests.support.damaged_folder import copied_model
from tests.support.revised_model import revised_model

DOCUMENT = Path(__file__).parents[3] / "docs/models.md"
SERVE, ADDRESS = "python -m http.server", "http://127.0.0.1:8000"
TEXT = "Once upon a time there was a little fox who lived in the forest with her mother."


def documented() -> list[str]:
    """The commands of the first block, in order."""
    block = DOCUMENT.read_text(encoding="utf-8").split("```console\n")[1].split("```")[0]
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


@contextmanager
def serving(command: str) -> Iterator[str]:
    """The address of the static server in the documents, at a port that is free."""
    arguments = shlex.split(command.removesuffix(" &"))[1:]
    assert arguments.pop() == ADDRESS.rpartition(":")[2]
    with subprocess.Popen(
        [sys.executable, "-u", *arguments, "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout
        started = re.search(r"http://[\d.:]+", server.stdout.readline())
        assert started
        yield started[0]
        server.terminate()


@pytest.fixture
def revisions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two model folders in the working directory, a text to measure with, and an empty store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEWISE_STORE", str(tmp_path / "store"))
    (tmp_path / "text.txt").write_text(TEXT)
    copied_model(tmp_path / "my-model")
    revised_model(tmp_path / "my-model-2", spread=0.3, every=100)
    found = []
    for folder in ("my-model", "my-model-2"):
        manifest = Manifest.read(tmp_path / folder)
        replace(manifest, name=folder).write(tmp_path / folder)
        found.append(manifest.revision)
    return found


def test_the_commands_of_the_documents(revisions: list[str]) -> None:
    """A model is published and pulled, its next revision updated to by a delta, used, and left again."""
    first, second = revisions
    before, serve, after = _parts(documented())
    shown = [_run(command) for command in before]
    with serving(serve) as address:
        shown += [_run(command.replace(ADDRESS, address)) for command in after]
    expected = [
        "root for devices: models-channel/metadata/1.root.json",
        f"my-model {first}: number 1, ",
        f"my-model {first} passed its trial; the next load uses it",
        f"delta from {first}: ",
        f"my-model {second} passed its trial; the next load uses it",
        "",  # a text
        f"my-model is rolled back from {second} to {first}",
    ]
    assert [
        words for words, output in zip(expected, shown, strict=True) if words not in output
    ] == []
    store = ModelStore()
    bad = store.revision("my-model", second).manifest.files[MODEL_FILE].sha256
    assert store.state("my-model").active == first
    assert [*store.state("my-model").failed] == [bad]


def _parts(commands: list[str]) -> tuple[list[str], str, list[str]]:
    """What comes before the static server, that one, and what comes after."""
    place = next(n for n, command in enumerate(commands) if command.startswith(SERVE))
    return commands[:place], commands[place], commands[place + 1 :]


def _run(command: str) -> str:
    """Its standard output; a short text makes publishing fast."""
    name, *arguments = shlex.split(command)
    measured = ["--text", "text.txt"] if "publish" in arguments else []
    done = run(*arguments, *measured, command=name)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout
