"""Loading models by name: the active revision, else the next best."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel, Manifest, ModelCorruptError, complete, model, trial
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import install_tales


@pytest.fixture(autouse=True)
def no_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are the bundled model's files, or fail before their trial."""
    monkeypatch.setattr(trial, "_try", lambda *_: 0)


def use(store: ModelStore, revision: str) -> Path:
    """The bundled model as an active revision."""
    folder = install_tales(store, revision)
    store.stage("tales", revision)
    store.take_staged("tales", generations=1)
    store.generation_ended("tales", ok=True)
    return folder


def loaded() -> str:
    """The revision that is loaded by its name."""
    return DeviceModel.load("tales", threads=1).manifest.revision


def flip_a_byte(path: Path) -> None:
    """In its middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def test_the_active_revision_is_loaded(store: ModelStore) -> None:
    """For `complete()`, too; after a rollback, the bundled one."""
    assert loaded() == Manifest.read(BUNDLED / "tales").revision
    use(store, "one")
    assert loaded() == "one"
    assert complete("Once upon a time", model="tales", max_tokens=2).text
    store.rollback("tales")
    assert loaded() == Manifest.read(BUNDLED / "tales").revision


def test_a_damaged_revision_gives_way(store: ModelStore, caplog: pytest.LogCaptureFixture) -> None:
    """To the one before it, and then to the bundled one, with a warning."""
    use(store, "one")
    two = use(store, "two")
    flip_a_byte(two / "merges.txt")  # of both: it is the same file
    assert loaded() == Manifest.read(BUNDLED / "tales").revision
    assert "merges.txt is not the file its manifest names" in caplog.text
    assert f"{BUNDLED / 'tales'} is loaded instead" in caplog.text


def test_a_damaged_revision_without_another_is_an_error(store: ModelStore) -> None:
    """The one of the active revision."""
    for revision in ("one", "two"):
        folder = install_tales(store, revision, name="story")
        store.stage("story", revision)
        store.take_staged("story", generations=1)
        store.generation_ended("story", ok=True)
    flip_a_byte(folder / "model.tflite")
    with pytest.raises(ModelCorruptError, match=r"story/two/model\.tflite is not the file"):
        DeviceModel.load("story", threads=1)


def test_another_process_switches_during_a_load(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And removes what was found: what is active now is loaded."""
    use(store, "one")
    find = model.find_folders
    folders: list[list[Path]] = []

    def find_and_switch(name: str) -> list[Path]:
        folders.append(find(name))
        if len(folders) == 1:
            other = ModelStore()
            for revision in ("two", "three"):
                use(other, revision)
            other.gc(grace=-1)
        return folders[-1]

    monkeypatch.setattr(model, "find_folders", find_and_switch)
    assert loaded() == "three"
    assert not folders[0][0].exists()


def test_a_load_imports_nothing_of_the_store() -> None:
    """Nor what only a trial needs."""
    script = (
        "import sys; from edgewise_edge import DeviceModel; DeviceModel.load('tales', threads=1);"
        "print([m for m in sys.modules if m.startswith('edgewise_edge.installed')"
        " or m in {'edgewise_edge.agreement', 'edgewise_edge.trial'}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"
