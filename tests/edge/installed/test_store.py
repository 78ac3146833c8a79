"""Installing, staging, rolling back and pinning revisions."""

import json
import os
import shutil
from pathlib import Path

import pytest

from edgewise_edge import (
    Manifest,
    ModelCorruptError,
    ModelIncompatibleError,
    ModelNotFoundError,
    ModelRefusedError,
    StoreError,
)
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import (
    activate,
    files_of,
    install,
    install_tales,
    is_whole,
    manifest_of,
    put_blob,
)


def sha256_of(store: ModelStore, revision: str) -> str:
    """Of its model file."""
    return store.revision("story", revision).manifest.files["model.tflite"].sha256


def test_reading_creates_nothing(store: ModelStore) -> None:
    """Nor does collecting garbage where there is none."""
    assert store.names() == store.revisions("story") == []
    assert (
        store.active_folder("story") is store.blob("0" * 64) is store.take_staged("story") is None
    )
    assert store.starting("story") is store.generation_ended("story", ok=True) is None
    assert store.gc() == 0
    assert not store.root.exists()


def test_a_revision_is_made_of_further_names_of_its_blobs(store: ModelStore) -> None:
    """Each file is on the disk once, and nothing uses the revision yet."""
    folder = install(store, "story", "one")
    assert is_whole(folder)
    blob = store.blob(sha256_of(store, "one"))
    assert blob is not None
    assert blob.samefile(folder / "model.tflite")
    (installed,) = store.revisions("story")
    assert (installed.revision, installed.folder) == ("one", folder)
    assert installed.size == sum(map(len, files_of("one").values()))
    assert store.names() == ["story"]
    assert store.active_folder("story") is None


def test_files_are_copied_where_there_are_no_links(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some memory cards."""

    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", link)
    assert is_whole(install(store, "story", "one"))


def test_a_staged_revision_becomes_active_when_it_is_taken(store: ModelStore) -> None:
    """Not before; the one before it is the way back."""
    activate(store, "story", "one")
    two = install(store, "story", "two")
    store.stage("story", "two")
    assert store.active_folder("story") != two
    assert store.take_staged("story") == store.active_folder("story") == two
    assert store.rollback("story") == "one"
    with pytest.raises(ModelRefusedError, match="failed on this device before: rolled back"):
        store.stage("story", "two")
    store.stage("story", "two", force=True)
    assert store.take_staged("story") == two


def test_the_first_revision_rolls_back_to_the_bundled_model(store: ModelStore) -> None:
    """None stands for it. Where none is bundled, there is no way back."""
    install_tales(store, "one")
    store.stage("tales", "one")
    assert store.take_staged("tales")
    assert store.rollback("tales") is None
    assert store.active_folder("tales") is None
    with pytest.raises(StoreError, match="no installed revision is in use"):
        store.rollback("tales")
    activate(store, "story", "one")
    with pytest.raises(StoreError, match="no revision before"):
        store.rollback("story")
    assert store.active_folder("story")


def test_without_a_proven_revision_the_way_back_is_what_was_used_before(store: ModelStore) -> None:
    """As right after a first download: neither an update nor a pin leaves the device without one."""
    for switch in (store.stage, store.pin):
        install(store, "story", "one")
        store.stage("story", "one", force=True)
        store.take_staged("story")
        install(store, "story", "two")
        switch("story", "two")
        store.take_staged("story")
        assert store.rollback("story") == "one"
        store.layout.model("story").joinpath("state.json").unlink()


def test_a_pinned_revision_stays(store: ModelStore) -> None:
    """Nothing is staged until it is unpinned; the bundled one can be pinned, too."""
    for revision in ("one", "two"):
        activate(store, "story", revision)
    store.pin("story", "one")
    assert store.state("story").active == "one"
    with pytest.raises(ModelRefusedError, match="pinned to one"):
        store.stage("story", "two")
    store.pin("story", None)
    store.stage("story", "two")
    bundled = Manifest.read(BUNDLED / "tales").revision
    install_tales(store, "one")
    store.stage("tales", "one")
    store.take_staged("tales")
    store.pin("tales", bundled)
    assert store.active_folder("tales") is None
    with pytest.raises(ModelNotFoundError):
        store.pin("story", "other")


def test_another_vocabulary_needs_another_name(store: ModelStore) -> None:
    """The error says so."""
    activate(store, "story", "one")
    install(store, "story", "two", vocabulary="other letters")
    with pytest.raises(ModelRefusedError, match="published under another name"):
        store.stage("story", "two")


def test_a_failed_file_is_not_staged_under_another_name(store: ModelStore) -> None:
    """It is remembered by its sha256; what is staged is dropped."""
    activate(store, "story", "one")
    install(store, "story", "two")
    store.stage("story", "two")
    store.fail("story", sha256_of(store, "two"), "it crashed in its trial")
    assert store.state("story").staged is None
    store.install(manifest_of("story", "two-again", files_of("two")))
    with pytest.raises(ModelRefusedError, match="it crashed in its trial"):
        store.stage("story", "two-again")


def test_a_revision_never_changes(store: ModelStore) -> None:
    """Installing it again repairs it; other content under its name is refused."""
    folder = install(store, "story", "one")
    (folder / "vocab.json").unlink()
    (folder / "vocab.json").write_bytes(b"[]")
    (folder / "merges.txt").unlink()
    assert install(store, "story", "one") == folder
    assert is_whole(folder)
    files = files_of("one") | {"vocab.json": b"{} "}
    put_blob(store, b"{} ")
    with pytest.raises(ModelRefusedError, match="a revision never changes"):
        store.install(manifest_of("story", "one", files))


def test_a_damaged_blob_is_found_and_removed(store: ModelStore) -> None:
    """So that it is fetched again."""
    sha256 = put_blob(store, files_of("one")["model.tflite"])
    blob = store.layout.blob(sha256)
    blob.chmod(0o600)
    blob.write_bytes(b"!" + blob.read_bytes()[1:])
    for content in (b"{}", b"#version: 0.2"):
        put_blob(store, content)
    manifest = manifest_of("story", "one", files_of("one"))
    with pytest.raises(ModelCorruptError, match="fetch it again"):
        store.install(manifest)
    with pytest.raises(ModelNotFoundError, match="fetch it again"):
        store.install(manifest)


def test_a_revision_damaged_while_it_was_staged_is_not_taken(store: ModelStore) -> None:
    """What is active stays; installing it again makes it good."""
    activate(store, "story", "one")
    model = install(store, "story", "two") / "model.tflite"
    store.stage("story", "two")
    model.chmod(0o600)
    model.write_bytes(b"!" + model.read_bytes()[1:])
    assert store.take_staged("story") == store.layout.revision("story", "one")
    assert store.state("story").staged is None
    assert store.state("story").failed == {}


def test_removing(store: ModelStore) -> None:
    """Frees the files that no other revision has; what is in use stays."""
    for revision in ("one", "two"):
        activate(store, "story", revision)
    with pytest.raises(StoreError, match="in use"):
        store.remove("story", "two")
    assert store.remove("story", "one") > len(files_of("one")["model.tflite"]) - 1
    assert store.state("story").previous is None
    assert is_whole(store.active_folder("story") or Path())
    with pytest.raises(ModelNotFoundError):
        store.remove("story", "one")
    assert store.remove("story") > 0
    assert store.names() == []
    with pytest.raises(ModelNotFoundError):
        store.remove("story")


@pytest.mark.parametrize(
    ("name", "revision", "file"),
    [
        ("..", "one", "x"),
        ("a/b", "one", "x"),
        ("a%2Fb", "one", "x"),
        ("story", "..", "x"),
        ("story", "state.json", "x"),
        ("story", "", "x"),
        ("story", "one", "../../x"),
        ("story", "one", "/etc/x"),
        ("story", "one", "x\0y"),
        ("story", "one", "manifest.json"),
        ("story", "one", ".hidden"),
    ],
)
def test_no_name_of_a_manifest_leaves_its_folder(
    store: ModelStore, name: str, revision: str, file: str
) -> None:
    """It is refused before anything is written."""
    files = files_of("one")
    for content in (*files.values(), b"x"):
        put_blob(store, content)
    with pytest.raises((ModelIncompatibleError, ModelCorruptError)):
        store.install(manifest_of(name, revision, files | {file: b"x"}))
    assert not store.layout.models.exists()


@pytest.mark.parametrize("name", ["..", "", "a/b", "a%2Fb", "\0", "x" * 65, ".hidden", 5])
def test_no_name_of_a_caller_leaves_the_store(store: ModelStore, name: str) -> None:
    """A name that is none is an error that says what a name is."""
    with pytest.raises(StoreError, match="letters"):
        store.state(name)
    with pytest.raises(StoreError, match="letters"):
        store.verify("story", name)
    with pytest.raises(StoreError, match="64 hex digits"):
        store.blob(name)


def test_a_manifest_without_a_vocabulary_is_refused(store: ModelStore) -> None:
    """It could not be loaded."""
    model = files_of("one")["model.tflite"]
    put_blob(store, model)
    with pytest.raises(ModelIncompatibleError, match=r"merges.txt, vocab.json"):
        store.install(manifest_of("story", "one", {"model.tflite": model}))


def test_the_device_has_a_random_name(store: ModelStore, tmp_path: Path) -> None:
    """Which stays, and is another in another store."""
    assert store.device_id() == ModelStore(store.root).device_id()
    assert store.device_id() != ModelStore(tmp_path / "other").device_id()
    (store.root / "device-id").write_text("damaged")
    assert json.dumps(store.device_id()).isascii()
    shutil.rmtree(store.root)


def test_what_a_switch_writes_survives_a_power_cut(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each file is flushed before it gets its name, and its folder after that."""
    install(store, "story", "one")
    calls: list[tuple[str, str]] = []

    def record(name: str) -> None:
        real = getattr(os, name)

        def recorded(target: int | Path, *rest: Path) -> None:
            path = Path(f"/proc/self/fd/{target}").readlink() if isinstance(target, int) else target
            calls.append((name, path.name))
            real(target, *rest)

        monkeypatch.setattr(os, name, recorded)

    for name in ("fsync", "replace", "link"):
        record(name)
    store.stage("story", "one")
    assert calls == [
        ("fsync", ".new-state.json"),
        ("replace", ".new-state.json"),
        ("fsync", "story"),
    ]
    calls.clear()
    install(store, "story", "two")
    blob = store.revision("story", "two").manifest.files["model.tflite"].sha256
    flushed, named = ("fsync", f"{blob}.part"), ("replace", f"{blob}.part")
    kept, linked = ("fsync", "blobs"), ("link", f"sha256-{blob}")
    order = [calls.index(call) for call in (flushed, named, kept, linked)]
    assert order == sorted(order)
    assert calls[-3:] == [("fsync", ".new-two"), ("replace", ".new-two"), ("fsync", "story")]
