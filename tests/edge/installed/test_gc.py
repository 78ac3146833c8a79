"""Garbage collection: what is spared, and what other processes and the clock make of it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel, StoreError
from edgewise_edge.installed.files import lock
from edgewise_edge.installed.store import ModelStore
from tests.conftest import token_request
from tests.support.installed_models import activate, install, install_tales, is_whole, put_blob

ROOT = Path(__file__).parents[3]
LONG_AGO = 1_000_000.0


def revisions(store: ModelStore) -> list[str]:
    """Those of "story"."""
    return [each.revision for each in store.revisions("story")]


def test_what_is_in_use_is_spared(store: ModelStore) -> None:
    """Active, previous, staged; the bytes of the others are free."""
    for revision in ("zero", "one", "two"):
        activate(store, "story", revision)
    install(store, "story", "three")
    store.stage("story", "three")
    put_blob(store, b"unused" * 1000)
    assert store.gc(grace=3600) == 0
    assert revisions(store) == ["one", "three", "two", "zero"]
    assert store.gc(grace=-1) > 6000 + 4000
    assert revisions(store) == ["one", "three", "two"]
    assert all(is_whole(each.folder) for each in store.revisions("story"))


def test_a_download_in_progress_is_spared(store: ModelStore) -> None:
    """However old its file is; one that nobody goes on with is not."""
    put_blob(store, b"x")
    with store.partial("0" * 64, 5000) as partial:
        partial.append(b"bytes")
        os.utime(partial.path, (LONG_AGO, LONG_AGO))
        store.gc()
        assert partial.path.exists()
    store.gc()
    assert not list(store.layout.partials.iterdir())


def test_a_clock_that_was_set_back(store: ModelStore) -> None:
    """What seems to come from the future is as old as today."""
    with store.partial("0" * 64, 5000) as partial:
        partial.append(b"bytes")
    future = time.time() + 1e8
    os.utime(partial.path, (future, future))
    store.gc()
    assert partial.path.exists()
    assert partial.path.stat().st_mtime <= time.time()


def test_a_model_that_is_removed_under_its_user_goes_on(store: ModelStore) -> None:
    """The system keeps what is mapped."""
    install_tales(store, "one")
    store.stage("tales", "one")
    store.take_staged("tales")
    model = DeviceModel.load("tales", threads=1)
    assert model.manifest.revision == "one"
    store.remove("tales")
    store.gc(grace=-1)
    assert list(model.stream_tokens(token_request([1], 300)))


def test_who_holds_the_lock_is_named(store: ModelStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while of waiting. Another purpose has a lock of its own."""
    store.device_id()
    with (
        store.exclusive("update"),
        pytest.raises(StoreError, match=f"in use by process {os.getpid()} for 0.01 s"),
        store.exclusive("update", timeout=0.01),
    ):
        pass
    with store.exclusive("update"), pytest.raises(ConnectionError), store.exclusive("other"):
        raise ConnectionError
    with lock.locked(store.root / "lock"):
        monkeypatch.setattr(lock, "TIMEOUT", 0.01)
        with pytest.raises(StoreError, match="wait until it is done"):
            store.gc()


def test_processes_that_switch_and_collect_at_a_time(store: ModelStore) -> None:
    """Whoever reads meanwhile always finds a whole model, at the second try at the latest."""
    for revision in ("one", "two"):
        activate(store, "story", revision)
    script = """
from edgewise_edge.installed.store import ModelStore
from edgewise_edge import StoreError, ModelError
from tests.conftest import token_request
from tests.support.installed_models import activate
store = ModelStore()
for number in range(10):
    try:
        activate(store, "story", ("one", "two", "three")[number % 3])
    except ModelError:
        pass  # collected by the other before it was staged
    except StoreError as error:
        assert "being downloaded" in str(error), error
    store.gc(grace=-1)
"""
    environment = os.environ | {"EDGEWISE_STORE": str(store.root)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment)
        for _ in range(2)
    ]
    reads = 0
    while any(process.poll() is None for process in processes):
        for attempt in range(20):
            folder = store.active_folder("story")
            assert folder, "no active model"
            try:
                assert is_whole(folder)
                break
            except Exception:
                if attempt == 19:
                    raise
        reads += 1
    assert [process.returncode for process in processes] == [0, 0]
    assert reads > 3
    store.gc(grace=-1)
    assert is_whole(store.active_folder("story") or Path())
