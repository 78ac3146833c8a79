"""Files of prepared weights: written once, reused, and written again if anything is wrong."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge import DeviceModel
from edgewise_edge.store.manifest import FileRecord
from edgewise_edge.store.weight_cache import WeightCache
from tests.edge.runtime.backends import Opener
from tests.edge.runtime.weights import Logits, assert_same, load, outputs


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """For each file of weights, what changes when it is written or replaced."""
    found = {path.name: path.stat() for path in folder.iterdir() if path.suffix != ".json"}
    return {name: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found.items()}


def test_the_second_load_reuses_the_file_of_the_first(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    opener: Opener,
) -> None:
    """It is written under another name; loading and running do not change it afterwards."""
    assert not cache.is_valid()
    assert_same(load(exact_folder, weights), expected)
    assert cache.is_valid()
    written = state(weights)
    assert written[cache.path.name][1] > 10_000  # the tiny model's weights
    assert_same(load(exact_folder, weights), expected)
    assert state(weights) == written
    assert opener.weight_caches[0] not in {None, cache.path}
    assert opener.weight_caches[1:] == [cache.path]
    assert sorted(path.suffix for path in weights.iterdir()) == [".json", ".xnnpack"]


def test_each_model_has_its_own_file(tmp_path: Path) -> None:
    """Named after its sha256."""
    one, other = (
        WeightCache(tmp_path, FileRecord(1, "a" * 64)),
        WeightCache(tmp_path, FileRecord(1, "b" * 64)),
    )
    assert one.path != other.path
    assert one.path == WeightCache(tmp_path, FileRecord(1, "a" * 64)).path


def test_each_library_version_and_processor_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their layouts may differ."""
    paths = {WeightCache(tmp_path, FileRecord(1, "a" * 64)).path}
    monkeypatch.setattr("ai_edge_litert.__version__", "99.9")
    paths.add(WeightCache(tmp_path, FileRecord(1, "a" * 64)).path)
    processor = "edgewise_edge.store.weight_cache.processor_features"
    monkeypatch.setattr(processor, lambda: "flags: none")
    paths.add(WeightCache(tmp_path, FileRecord(1, "a" * 64)).path)
    assert len(paths) == 3


def truncated(cache: WeightCache, _record: Path) -> None:
    data = cache.path.read_bytes()
    cache.path.write_bytes(data[: len(data) // 2])


def emptied(cache: WeightCache, _record: Path) -> None:
    cache.path.write_bytes(b"")


def flipped(cache: WeightCache, _record: Path) -> None:
    data = bytearray(cache.path.read_bytes())
    data[len(data) // 2 :] = bytes(byte ^ 0xFF for byte in data[len(data) // 2 :])
    cache.path.write_bytes(data)


def removed(cache: WeightCache, _record: Path) -> None:
    cache.path.unlink()


def record_removed(_cache: WeightCache, record: Path) -> None:
    record.unlink()


def record_of_another_size(_cache: WeightCache, record: Path) -> None:
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"size": content["size"] + 1}))


def record_of(content: bytes) -> Callable[[WeightCache, Path], None]:
    def write(_cache: WeightCache, record: Path) -> None:
        record.write_bytes(content)

    return write


GARBAGE = [b"", b"{", b"\xff\xfe", b"null", b"[]", b"7", b"{}", b'{"size": 1}', b'{"a": 1, "b": 2}']


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        emptied,
        flipped,
        removed,
        record_removed,
        record_of_another_size,
        *map(record_of, GARBAGE),
    ],
)
def test_a_changed_file_is_written_again(
    exact_folder: Path,
    weights: Path,
    cache: WeightCache,
    expected: list[Logits],
    opener: Opener,
    damage: Callable[[WeightCache, Path], None],
) -> None:
    """The library is never given the changed file, and the new one is reused."""
    load(exact_folder, weights)
    (record,) = weights.glob("*.json")
    damage(cache, record)
    assert not cache.is_valid()
    assert_same(load(exact_folder, weights), expected)
    assert cache.path not in opener.weight_caches
    assert cache.is_valid()
    assert_same(load(exact_folder, weights), expected)
    assert opener.weight_caches[2:] == [cache.path]


def test_a_file_may_be_replaced_while_in_use(
    exact_folder: Path, weights: Path, cache: WeightCache, expected: list[Logits]
) -> None:
    """A model that has the old file mapped continues to work."""
    load(exact_folder, weights)
    model = DeviceModel.load(exact_folder, threads=1, weight_cache=weights)
    (record,) = weights.glob("*.json")
    record.unlink()
    load(exact_folder, weights)
    assert cache.is_valid()
    assert_same(outputs(model.runtime), expected)


def test_leftovers_of_an_interrupted_load_do_no_harm(
    exact_folder: Path, weights: Path, cache: WeightCache, expected: list[Logits]
) -> None:
    """A partial file, or a file without a record."""
    weights.mkdir(parents=True)
    partial = weights / f".{'0' * 32}.partial"
    partial.write_bytes(b"half")
    cache.path.write_bytes(b"complete, perhaps")
    assert_same(load(exact_folder, weights), expected)
    assert cache.is_valid()
    assert cache.path.stat().st_size > 10_000


def test_concurrent_loads_in_threads_leave_a_valid_file(
    exact_folder: Path, weights: Path, cache: WeightCache, expected: list[Logits]
) -> None:
    """And each gives the right outputs."""
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: load(exact_folder, weights), range(4)):
            assert_same(found, expected)
    assert_same(load(exact_folder, weights), expected)
    assert cache.is_valid()
    assert len(list(weights.iterdir())) == 2


LOAD = """
import sys
from pathlib import Path
from edgewise_edge import DeviceModel
sys.stdin.readline()
model = DeviceModel.load(sys.argv[1], threads=1, weight_cache=Path(sys.argv[2]))
session = model.runtime.session()
session.forward(list(range(70)))
print(session.forward([7]).tobytes().hex())
"""


def test_concurrent_loads_in_processes_leave_a_valid_file(
    exact_folder: Path, weights: Path, cache: WeightCache, expected: list[Logits]
) -> None:
    """And each gives the right outputs."""
    command = [sys.executable, "-c", LOAD, str(exact_folder), str(weights)]
    loads = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    with ThreadPoolExecutor(len(loads)) as pool:
        answers = list(pool.map(lambda process: process.communicate("go\n", timeout=120), loads))
    for process, (out, _) in zip(loads, answers, strict=True):
        assert process.returncode == 0
        np.testing.assert_array_equal(np.frombuffer(bytes.fromhex(out), np.float32), expected[1])
    assert_same(load(exact_folder, weights), expected)
    assert cache.is_valid()
    assert len(list(weights.iterdir())) == 2
