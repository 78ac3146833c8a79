"""A store that others could have written to is not used, and no bundled model suffers from it."""

import os
from pathlib import Path

import pytest

from edgewise_edge import StoreError, find_model
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store import active
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import activate, install, install_tales

OTHER_USER = 12345


@pytest.fixture
def tales(store: ModelStore) -> Path:
    """The active revision of the bundled model."""
    folder = install_tales(store, "one")
    store.stage("tales", "one")
    store.take_staged("tales")
    assert find_model("tales") == folder
    return folder


def test_a_store_that_others_may_write_to(
    store: ModelStore, tales: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Is ignored, which is logged once, and left as it is."""
    store.root.chmod(0o777)
    assert find_model("tales") == find_model("tales") == BUNDLED / "tales"
    assert store.state("tales").active is None
    assert len({record.message for record in caplog.records}) == len(caplog.records) == 2
    for change in (store.gc, store.device_id, lambda: store.rollback("tales")):
        with pytest.raises(StoreError, match="chmod go-w"):
            change()
    with pytest.raises(StoreError, match="chmod go-w"), store.partial("0" * 64, 5):
        pass
    store.root.chmod(0o700)
    assert find_model("tales") == tales


def test_a_store_of_another_user(
    store: ModelStore, tales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same."""
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    if store.root.stat().st_uid == 0:  # root's may be read by all
        with pytest.raises(StoreError, match="another user"):
            store.gc()
        os.chown(store.root, OTHER_USER + 1, -1)
    assert find_model("tales") == BUNDLED / "tales"
    assert store.take_staged("tales") is None


@pytest.mark.parametrize("where", ["models", "models/tales", "models/tales/one"])
def test_folders_that_are_links(store: ModelStore, tales: Path, where: str) -> None:
    """Lead nowhere."""
    folder = store.root / where
    folder.rename(store.root.with_name("elsewhere"))
    folder.symlink_to(store.root.with_name("elsewhere"))
    assert find_model("tales") == BUNDLED / "tales"


@pytest.mark.parametrize("file", ["state.json", "one/manifest.json"])
def test_files_that_are_links(store: ModelStore, tales: Path, file: str) -> None:
    """Count as missing."""
    path = store.root / "models" / "tales" / file
    path.rename(store.root / "elsewhere")
    path.symlink_to(store.root / "elsewhere")
    assert find_model("tales") == BUNDLED / "tales"


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"\xff",
        b"[" * 60_000,
        b"x" * 2**19,
        b"{}",
        b"[]",
        b'{"format": 2}',
        b'{"format": 1, "active": "../../../etc", "previous": null}',
        b'{"format": 1, "active": ["one"], "previous": 7}',
        b'{"format": 1, "active": "gone", "previous": null}',
    ],
)
def test_a_damaged_state(store: ModelStore, tales: Path, state: bytes) -> None:
    """The bundled model is used, garbage collection spares all, and a new update starts over."""
    (store.root / "models/tales/state.json").write_bytes(state)
    assert find_model("tales") == BUNDLED / "tales"
    assert store.take_staged("tales") is None
    if b"gone" not in state:
        store.gc(grace=-1)
    assert [each.folder for each in store.revisions("tales")] == [tales]
    if b": 2" in state:
        with pytest.raises(StoreError, match="another version"):
            store.stage("tales", "one")
        return
    store.stage("tales", "one")
    assert store.take_staged("tales") == tales


def test_a_truncated_model_gives_way_to_the_one_before(store: ModelStore) -> None:
    """Found without reading it."""
    for revision in ("one", "two"):
        activate(store, "story", revision)
    model = store.layout.revision("story", "two") / "model.tflite"
    model.unlink()
    model.write_bytes(b"short")
    assert find_model("story") == store.layout.revision("story", "one")


def test_a_store_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Says so when something is written, and does not stop a load."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEWISE_STORE", str(tmp_path / "file" / "store"))
    assert find_model("tales") == BUNDLED / "tales"
    with pytest.raises(StoreError, match="Not a directory"):
        ModelStore().device_id()


def test_an_installed_name_wins_over_a_folder(
    store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a bundled one does; a path is a path."""
    activate(store, "story", "one")
    (tmp_path / "story").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("story") == store.layout.revision("story", "one")
    assert find_model("./story") == find_model(Path("story")) == tmp_path / "story"
    assert active.active_folder("../story") is None
    install(store, "other", "one")
