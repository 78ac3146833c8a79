"""Files of prepared weights that nobody uses any more are removed."""

import os
import time
from pathlib import Path

import pytest

from edgewise_edge.store.manifest import FileRecord
from edgewise_edge.store.weight_cache import WeightCache
from tests.edge.runtime.backends import Opener
from tests.edge.runtime.weights import DAY, load


def touch(path: Path, days_ago: float) -> None:
    """Set the time of a file's last use."""
    os.utime(path, (time.time() - days_ago * DAY,) * 2)


@pytest.fixture
def other_models(weights: Path) -> dict[str, list[Path]]:
    """Weights of three other models, last used 0, 29 and 31 days ago."""
    weights.mkdir(parents=True)
    files = {}
    for name, days in (("new", 0.0), ("aging", 29.0), ("old", 31.0)):
        files[name] = [weights / f"{name}{suffix}" for suffix in (".xnnpack", ".json")]
        for path in files[name]:
            path.write_text("{}")
            touch(path, days)
    return files


def test_weights_unused_for_30_days_are_removed(
    exact_folder: Path, weights: Path, cache: WeightCache, other_models: dict[str, list[Path]]
) -> None:
    """When another model's are written; newer ones stay."""
    load(exact_folder, weights)
    assert cache.is_valid()
    for name, paths in other_models.items():
        assert [path.exists() for path in paths] == [name != "old"] * 2


def test_weights_in_use_are_kept_however_old(
    exact_folder: Path, weights: Path, cache: WeightCache, opener: Opener
) -> None:
    """The time of the last use counts, not that of writing."""
    load(exact_folder, weights)
    (record,) = weights.glob("*.json")
    touch(record, 40)
    load(exact_folder, weights)
    with WeightCache(weights, FileRecord(1, "b" * 64)).writing() as path:
        assert path is not None
        path.write_bytes(b"another model's")
    assert cache.is_valid()
    assert opener.weight_caches[1:] == [cache.path]


def test_leftovers_of_interrupted_loads_are_removed(exact_folder: Path, weights: Path) -> None:
    """After 30 days: a newer partial file may belong to a load in progress."""
    weights.mkdir(parents=True)
    old, new = weights / f".{'0' * 32}.partial", weights / f".{'1' * 32}.partial"
    for path in (old, new):
        path.write_bytes(b"half")
    touch(old, 31)
    load(exact_folder, weights)
    assert not old.exists()
    assert new.exists()


def test_other_files_are_left_alone(exact_folder: Path, weights: Path) -> None:
    """The folder may serve other purposes too."""
    weights.mkdir(parents=True)
    others = [weights / name for name in ("manifest.json", "vocab.json", "notes.txt")]
    for path in others:
        path.write_text("{}")
        touch(path, 400)
    load(exact_folder, weights)
    assert [path.name for path in others if not path.exists()] == []
