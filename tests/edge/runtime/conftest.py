"""Runtimes that record, models with and without a prefix cache, and folders of weights."""

from collections.abc import Callable
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel, Manifest
from edgewise_edge.runtime.kv_cache import KVCache
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from edgewise_edge.store.weight_cache import WeightCache
from tests.edge.runtime.backends import Opener
from tests.edge.runtime.recording import RecordingRuntime
from tests.edge.runtime.weights import Logits, outputs


@pytest.fixture
def runtime(exact_model: DeviceModel) -> RecordingRuntime:
    """The tiny model's runtime, recording."""
    return RecordingRuntime(exact_model.runtime, chunk=128)


@pytest.fixture
def model(exact_model: DeviceModel, runtime: RecordingRuntime) -> DeviceModel:
    """The tiny model with an empty prefix cache."""
    return DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime)


@pytest.fixture
def uncached(exact_model: DeviceModel) -> DeviceModel:
    """The tiny model without a prefix cache."""
    return DeviceModel(exact_model.manifest, exact_model.tokenizer, exact_model.runtime, 0)


@pytest.fixture
def row(runtime: RecordingRuntime) -> int:
    """Bytes per cached token."""
    return runtime.bytes_per_token


@pytest.fixture
def held(runtime: RecordingRuntime) -> Callable[[int], int]:
    """Bytes of memory that a cache takes in which so many rows were written."""

    def held(rows: int) -> int:
        cache = KVCache(runtime.architecture)
        cache.wrote(rows)
        return cache.held

    return held


@pytest.fixture
def block(held: Callable[[int], int]) -> int:
    """Bytes of memory that a cache of 1 to 64 rows takes, which fill a page each."""
    assert held(1) == held(64) < held(65)
    return held(1)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder for prepared weights, which does not exist yet."""
    return tmp_path / "a folder" / "weights"


@pytest.fixture
def cache(exact_folder: Path, exact_model: DeviceModel, weights: Path) -> WeightCache:
    """The tiny model's file in it. The model has been loaded before, so that it is not tried again."""
    return WeightCache(weights, Manifest.read(exact_folder).files[MODEL_FILE])


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    """Records the files that the library is given."""
    opener = Opener()
    opener.install(monkeypatch)
    return opener


@pytest.fixture(scope="session")
def expected(exact_folder: Path, exact_model: DeviceModel) -> list[Logits]:
    """The tiny model's outputs without prepared weights. It has been loaded before, as for `cache`."""
    architecture = Manifest.read(exact_folder).architecture
    return outputs(Runtime.load(exact_folder / MODEL_FILE, architecture, threads=1))
