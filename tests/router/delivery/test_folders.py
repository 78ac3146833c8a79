"""Files of folders and of a model hub."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import ChannelError, DownloadFailedError
from edgewise.delivery.catalog.plain import PlainFolder
from edgewise.delivery.fetch import FetchError, FetchFailure, open_fetcher
from tests.router.delivery.conftest import CONTENT, SHA256, Fetch
from tests.support.file_server import Fault, FileServer

COMMIT, LATER = "a" * 40, "b" * 40


def test_a_folder_is_read_from_any_byte(folder: Path) -> None:
    """By path and by file:// address; a file that has changed since starts at 0."""
    for address in (str(folder), folder.as_uri()):
        fetcher = open_fetcher(address)
        with fetcher.open("model.tflite", 10) as reply:
            assert b"".join(reply.chunks) == CONTENT[10:]
        os.utime(folder / "model.tflite", ns=(0, 0))
        with fetcher.open("model.tflite", 10, reply.validator) as again:
            assert (again.offset, again.size) == (0, len(CONTENT))
        os.utime(folder / "model.tflite")


def test_what_is_no_file_is_refused(folder: Path) -> None:
    """A FIFO has no end; a folder and a stick that is not there are no files."""
    os.mkfifo(folder / "fifo")
    (folder / "folder").mkdir()
    fetcher = open_fetcher(str(folder))
    for path in ("fifo", "folder"):
        with pytest.raises(FetchError) as failed:
            fetcher.open(path)
        assert failed.value.kind is FetchFailure.REFUSED
    with pytest.raises(FetchError, match="not there now") as failed:
        open_fetcher(str(folder / "stick")).open("model.tflite")
    with pytest.raises(FetchError, match="does not exist") as failed:
        fetcher.open("missing")
    assert failed.value.kind is FetchFailure.MISSING


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    """Its storage; the tests redirect to it."""
    (tmp_path / "hub/storage").mkdir(parents=True)
    (tmp_path / "hub/storage/model.tflite").write_bytes(CONTENT)
    with FileServer(tmp_path / "hub") as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        yield server


def redirect(hub: FileServer, commit: str, etag: str = SHA256, times: int = 1) -> None:
    """As a hub does to its storage."""
    hub.redirect(
        f"{hub.address}/storage/model.tflite",
        on="/org/tales/resolve/",
        times=times,
        X_Repo_Commit=commit,
        X_Linked_ETag=f'"{etag}"',
    )


def test_a_hub_is_read_at_one_commit(hub: FileServer, fetch: Fetch) -> None:
    """What `main` named first; the rest of the file is asked of that commit."""
    redirect(hub, COMMIT)
    hub.misbehave(Fault.TRUNCATE, on="/storage/", after=1000)
    redirect(hub, COMMIT)
    assert fetch("hf://org/tales/device").read_bytes() == CONTENT
    assert [request.path for request in hub.requests] == [
        "/org/tales/resolve/main/device/model.tflite",
        "/storage/model.tflite",
        f"/org/tales/resolve/{COMMIT}/device/model.tflite",
        "/storage/model.tflite",
    ]
    assert hub.sent == len(CONTENT)


def test_a_hub_that_mixes_commits_is_refused(hub: FileServer) -> None:
    """Files of two commits do not belong together."""
    fetcher = open_fetcher(f"hf://org/tales@{COMMIT}/device")
    redirect(hub, LATER)
    with pytest.raises(FetchError, match=f"commit {LATER}"):
        fetcher.open("model.tflite")


def test_a_hub_names_the_sha256(hub: FileServer, fetch: Fetch) -> None:
    """Another file is not downloaded at all."""
    redirect(hub, COMMIT, "0" * 64)
    with pytest.raises(DownloadFailedError, match="another file"):
        fetch("hf://org/tales/device")


def write_model_folder(folder: Path, **fields: object) -> None:
    """A manifest whose files need not be a model."""
    files = dict.fromkeys(("model.tflite", "vocab.json", "merges.txt", "config.json"), CONTENT)
    manifest = {
        "format": 1,
        "name": "tales",
        "revision": "r1",
        "architecture": {
            "vocabulary_size": 10, "context_window": 10, "layers": 1, "heads": 1, "width": 2,
        },
        "vocabulary": "0" * 64,
        "files": {
            name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in files.items()
        },
        "memory": 10,
        **fields,
    }  # fmt: skip
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_a_plain_folder_is_a_catalog_of_one_revision(folder: Path) -> None:
    """Anywhere; with the target paths of a channel, and without the Keras files."""
    write_model_folder(folder)
    with FileServer(folder) as server:
        for address in (str(folder), server.address):
            catalog = PlainFolder(address)
            index = catalog.refresh()
            (revision,) = index.models["tales"]
            assert (revision.revision, revision.size, revision.memory) == ("r1", 3_000_000, 10)
            manifest = catalog.target("tales/r1/manifest.json")
            assert manifest is not None
            assert manifest.size == (folder / "manifest.json").stat().st_size
            model = catalog.target(f"blobs/{SHA256}")
            assert model is not None
            with catalog.fetcher.open(model.path) as reply:
                assert reply.size == model.size
            assert catalog.target("tales/r1/evaluation.json") is None
            catalog.close()


@pytest.mark.parametrize("fields", [{"name": "../tales"}, {"vocabulary": "odd"}, {"files": {}}])
def test_an_odd_manifest_is_no_catalog(folder: Path, fields: dict[str, object]) -> None:
    """Nor is a folder without one."""
    with pytest.raises(ChannelError, match=r"no model folder.*does not exist"):
        PlainFolder(str(folder)).refresh()
    write_model_folder(folder, **fields)
    with pytest.raises(ChannelError, match="no model folder"):
        PlainFolder(str(folder)).refresh()
