"""Real models: what is delivered runs, what is bad is refused, and no request tells of a prompt."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgewise import Router, UpdateOutcome
from edgewise.delivery.catalog import open_catalog
from edgewise.delivery.settings import DownloadSettings
from edgewise.delivery.update import Updater, UpdateResult
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store.catalog import BUNDLED
from tests.support.file_server import FileServer
from tests.support.published_models import (
    PublishedModels,
    lenient_evaluation,
    shuffled,
    tuned,
)

CANARY = "xylophone-4711-canary"


@pytest.fixture
def published(tmp_path: Path) -> PublishedModels:
    """A good revision of tales, with a delta from the bundled one."""
    published = PublishedModels(tmp_path / "channel", "tales")
    good = tuned()
    published.publish_tales("good", good, lenient_evaluation())
    published.add_delta((BUNDLED / "tales" / "model.tflite").read_bytes(), good, "good")
    return published


@pytest.fixture
def server(published: PublishedModels) -> Iterator[FileServer]:
    """Serves it."""
    with FileServer(published.folder) as server:
        yield server


def update(server: FileServer, published: PublishedModels, store: ModelStore) -> UpdateResult:
    """With a trial in a child process."""
    catalog = open_catalog(server.address, store=store, root=published.root)
    with Updater("tales", catalog, store, threads=1) as updater:
        return updater.update()


def test_delivery_says_nothing_of_prompts_and_refuses_nonsense(
    server: FileServer,
    published: PublishedModels,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """While private texts are written, a delta comes and is tried; then a model that writes nonsense."""
    store = ModelStore(tmp_path / "store")
    monkeypatch.setenv("EDGEWISE_STORE", str(store.root))
    with (
        Router("tales", threads=1, default_privacy="private") as router,
        router.stream(f"The password is {CANARY}", max_tokens=20, seed=4711) as stream,
    ):
        said = next(stream).text
        result = update(server, published, store)
        said += "".join(chunk.text for chunk in stream)
    assert (result.outcome, result.delta) == (UpdateOutcome.STAGED, True)
    assert result.fetched < 100_000
    published.publish_tales("nonsense", shuffled(), lenient_evaluation())
    refused = update(server, published, store)
    assert refused.outcome is UpdateOutcome.REFUSED
    assert "bits per byte" in refused.reason
    folder = store.take_staged("tales")
    assert folder is not None
    assert folder.name == "good"
    told = [str((request.path, request.headers)) for request in server.requests]
    assert told
    for secret in (CANARY, "4711", "password", said[:10]):
        assert not any(secret in request for request in told)


def test_a_plain_folder_is_a_catalog_of_one_revision(tmp_path: Path) -> None:
    """It is tried, and not gated: nobody has measured it."""
    store = ModelStore(tmp_path / "store")
    catalog = open_catalog(str(BUNDLED / "tales"), store=store, settings=DownloadSettings())
    with Updater("tales", catalog, store, threads=1) as updater:
        assert updater.update().outcome is UpdateOutcome.CURRENT


def test_a_text_that_is_left_open_when_the_program_ends_counts_for_nothing() -> None:
    """Python is being torn down then: reading the store would print a traceback."""
    script = """
import os
from edgewise.device.probation import Probation

class Store:
    def starting(self, name): pass
    def running(self, name): pass
    def started(self, name): pass
    def generation_ended(self, *_, write=os.write, **__): write(1, b"asked")

class Source:
    def run(self, request, attempt): yield from range(9)

text = Probation(Store(), "story", "one", None).run(Source(), None, None)
next(text)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
