"""A store of revisions of tales that load without a trial, and a router that uses it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgewise import Event, LatencyLog, Router
from edgewise_edge import trial
from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store import active
from tests.support.installed_models import install_tales
from tests.support.published_models import shuffled
from tests.support.routers_of_revisions import BUNDLED_REVISION, DEVICE

Install = Callable[[str], Path]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The one that EDGEWISE_STORE names; no trial, which takes a process each time."""
    monkeypatch.setenv("EDGEWISE_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(active, "_reported", set())
    monkeypatch.setattr(trial, "_try", lambda *_: 0)
    return ModelStore()


@pytest.fixture
def stage(store: ModelStore) -> Callable[..., None]:
    """Install a revision with other weights, or with this model file, and stage it."""

    def stage(revision: str, model: bytes | None = None) -> None:
        install_tales(store, revision, model or shuffled(len(revision)))
        store.stage("tales", revision)

    return stage


@pytest.fixture
def events() -> list[Event]:
    """What the router reports."""
    return []


@pytest.fixture
def router(store: ModelStore, events: list[Event]) -> Iterator[Router]:
    """On tales."""
    with Router(
        device=lambda: DEVICE, latency=LatencyLog(), threads=1, observers=[events.append]
    ) as router:
        assert router.model.revision == BUNDLED_REVISION
        yield router
