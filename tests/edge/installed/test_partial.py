"""Downloads that go on where they stopped, and the app's own stream."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from edgewise_edge import ModelCorruptError, ModelNotFoundError, StoreError
from edgewise_edge.installed.files import partial as partial_module
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.installed_models import files_of, install, is_whole, manifest_of, put_blob

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def test_a_download_goes_on_from_the_bytes_that_are_there(store: ModelStore) -> None:
    """With what was noted beside them; at its end it is a blob that nobody can write to."""
    with store.partial(SHA256, len(CONTENT)) as partial:
        partial.append(CONTENT[:3000])
        partial.note({"validator": '"etag"'})
    with store.partial(SHA256, len(CONTENT)) as partial:
        assert (partial.size, partial.total) == (3000, len(CONTENT))
        assert partial.journal == {"validator": '"etag"'}
        partial.append(CONTENT[3000:])
        blob = partial.finish()
    assert blob == store.blob(SHA256)
    assert blob.read_bytes() == CONTENT
    assert blob.stat().st_mode & 0o222 == 0
    assert not list(store.layout.partials.iterdir())


def test_other_bytes_are_dropped_at_the_end(store: ModelStore) -> None:
    """The next try starts over."""
    with store.partial(SHA256, len(CONTENT)) as partial:
        with pytest.raises(ModelCorruptError, match="0 of the 10,240 bytes"):
            partial.finish()
        partial.append(b"!" * len(CONTENT))
        with pytest.raises(ModelCorruptError, match="starts over"):
            partial.finish()
        assert partial.size == 0
        partial.append(CONTENT)
        partial.finish()
    assert store.blob(SHA256)


def test_more_bytes_than_were_announced_are_refused(store: ModelStore) -> None:
    """None of them is written."""
    with store.partial(SHA256, 10) as partial:
        partial.append(b"12345")
        with pytest.raises(ModelCorruptError, match="more bytes came than the 10"):
            partial.append(b"678901")
        assert partial.size == partial.path.stat().st_size == 5


def test_only_one_may_download_a_file(store: ModelStore) -> None:
    """The other is told who does."""
    other = store.partial(SHA256, len(CONTENT))
    with (
        store.partial(SHA256, len(CONTENT)),
        pytest.raises(StoreError, match=f"downloaded by process {os.getpid()}"),
    ):
        other.open()
    other.open().close()


def test_bytes_that_a_power_cut_may_have_lost_are_dropped(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that were not flushed before the machine stopped."""
    with store.partial(SHA256, len(CONTENT)) as partial:
        partial.append(CONTENT[:2000])
        partial.flush()
        partial.append(CONTENT[2000:4000])
    monkeypatch.setattr(partial_module, "machine_start", lambda: "another start")
    with store.partial(SHA256, len(CONTENT)) as partial:
        assert partial.size == 2000


@pytest.mark.parametrize("journal", [b"", b"[]", b"\xff", b'{"notes": [], "flushed": -5}'])
def test_a_damaged_journal_costs_the_bytes_at_most(store: ModelStore, journal: bytes) -> None:
    """The download works."""
    with store.partial(SHA256, len(CONTENT)) as partial:
        partial.append(CONTENT[:2000])
    (store.layout.partials / f"{SHA256}.json").write_bytes(journal)
    with store.partial(SHA256, len(CONTENT)) as partial:
        assert partial.size == 0
        assert partial.journal == {}
        partial.append(CONTENT)
        partial.finish()


def test_a_full_disk_says_how_much_is_needed(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the download where that is known; else the bytes that fitted stay."""
    with pytest.raises(StoreError, match=r"is full: 1,000,000,004\.2 MB are needed"):
        store.partial(SHA256, 10**15).open()
    with store.partial(SHA256, len(CONTENT)) as partial:
        partial.append(CONTENT[:3000])

        def full(descriptor: int, content: memoryview) -> int:
            if len(content) > 500:
                return real(descriptor, content[:500])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        real = os.write
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(StoreError, match="MB are needed"):
            partial.append(CONTENT[3000:4000])
        monkeypatch.undo()
        assert partial.size == partial.path.stat().st_size == 3000


def test_the_file_may_not_be_a_link(store: ModelStore, tmp_path: Path) -> None:
    """What it leads to is left alone."""
    put_blob(store, b"x")
    (tmp_path / "precious").write_bytes(b"precious")
    (store.layout.partials / f"{SHA256}.part").symlink_to(tmp_path / "precious")
    with pytest.raises(StoreError):
        store.partial(SHA256, 5).open()
    assert (tmp_path / "precious").read_bytes() == b"precious"


def test_a_stream_of_the_app_goes_on_where_the_last_one_ended(store: ModelStore) -> None:
    """It starts at an offset, or at 0, and then known bytes are skipped."""
    files = files_of("one")
    model, manifest = files["model.tflite"], manifest_of("story", "one", files)
    for name in ("vocab.json", "merges.txt"):
        put_blob(store, files[name])

    def add(start: int, end: int) -> None:
        pieces = (model[at : min(end, at + 100)] for at in range(start, end, 100))
        store.add("story", pieces, size=len(model), manifest=manifest, offset=start)

    with pytest.raises(ModelCorruptError, match="goes on from offset 1050"):
        add(0, 1050)
    with pytest.raises(StoreError, match="offset is 2000"):
        add(2000, len(model))
    with pytest.raises(ModelCorruptError, match="goes on from offset 2000"):
        add(0, 2000)
    add(1500, len(model))
    assert is_whole(store.revision("story", "one").folder)


def test_a_stream_that_fails_keeps_its_bytes(store: ModelStore) -> None:
    """The app sees its own error."""

    def broken() -> object:
        yield b"one" * 100
        raise ConnectionError("unplugged")

    files = files_of("one")
    manifest = manifest_of("story", "one", files)
    size = len(files["model.tflite"])
    with pytest.raises(ConnectionError):
        store.add("story", broken(), size=size, manifest=manifest)
    with store.partial(json.loads(manifest)["files"]["model.tflite"]["sha256"], size) as partial:
        assert partial.size == 300


def test_a_stream_of_the_bundled_model_needs_no_manifest(store: ModelStore) -> None:
    """The other files are taken from it. Another file needs one."""
    model = (BUNDLED / "tales/model.tflite").read_bytes()
    revision = store.add("tales", [model], size=len(model))
    assert is_whole(revision.folder)
    with pytest.raises(ModelNotFoundError, match="give one with manifest"):
        store.add("tales", [b"x"], size=1, sha256="0" * 64)
    with pytest.raises(StoreError, match="give its manifest"):
        store.add("tales", [b"x"], size=1)
    install(store, "story", "one")
    with pytest.raises(StoreError, match="is of the model 'story'"):
        store.add("tales", [], size=1, manifest=store.layout.revision("story", "one"))


def test_the_other_files_may_lie_beside_the_manifest(store: ModelStore, tmp_path: Path) -> None:
    """Of a model that was not here: the app ships them, and streams the large one."""
    files = files_of("one")
    for name, content in {**files, "manifest.json": manifest_of("story", "one", files)}.items():
        (tmp_path / name).write_bytes(content)
    model = files["model.tflite"]
    revision = store.add("story", [memoryview(model)], size=len(model), manifest=str(tmp_path))
    assert is_whole(revision.folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("name", 5),
        ("stream", 5),
        ("stream", ["text"]),
        ("stream", b"bytes"),
        ("size", "3"),
        ("offset", -1),
    ],
)
def test_what_cannot_be_a_stream_is_an_error_in_words(
    store: ModelStore, option: str, value: object
) -> None:
    """Before anything is written."""
    files = files_of("one")
    given = {"name": "story", "stream": [], "size": len(files["model.tflite"])}
    with pytest.raises(StoreError):
        store.add(manifest=manifest_of("story", "one", files), **{**given, option: value})
