"""An update that is killed at its steps: the active model always loads, and the next try goes on."""

from pathlib import Path

import pytest

from edgewise_edge.installed.store import ModelStore
from tests.support.file_server import FileServer
from tests.support.installed_models import is_whole
from tests.support.killed_updates import NAME, kill_updates
from tests.support.published_models import PublishedModels


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.soak)])
def test_an_update_survives_kills_at_its_steps(every: int, tmp_path: Path) -> None:
    """Each child goes on where the ones before were killed; the last one has nothing left to do."""
    published, root = PublishedModels(tmp_path / "channel"), tmp_path / "root.json"
    published.publish("one")
    root.write_bytes(published.root)
    store = ModelStore(tmp_path / "store")
    with FileServer(published.folder) as server:
        kill_updates(server.address, root, store.root, [])
        assert store.take_staged(NAME, generations=1) is not None
        store.generation_ended(NAME, ok=True)
        published.publish("two")
        made = kill_updates(server.address, root, store.root, list(range(0, 60, every)))
    print(f"steps of each child: {made}")
    active = store.active_folder(NAME)
    assert active is not None
    assert active.name == "one"
    assert is_whole(active)
    assert store.state(NAME).staged == "two"
    assert is_whole(store.revision(NAME, "two").folder)
    assert made[-1] < max(made)  # it had been staged before
