"""An empty store, which models are also found in."""

from pathlib import Path

import pytest

from edgewise_edge.installed.store import ModelStore
from edgewise_edge.store import active


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelStore:
    """The one that EDGEWISE_STORE names."""
    monkeypatch.setenv("EDGEWISE_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(active, "_reported", set())
    return ModelStore()
