"""A model's file in memory: where it lies, and how much of it stays resident."""

import ctypes
import itertools
import sys
from pathlib import Path

import pytest

from edgewise_edge import DeviceModel, find_model
from edgewise_edge.runtime.litert.mapped_file import MappedFile
from edgewise_edge.store.manifest import MODEL_FILE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux maps it so")


def resident(name: str) -> int:
    """Bytes of the mapping of a file that are resident in this process."""
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    found = 0
    for line in lines:
        if line.endswith(name):
            rss = next(other for other in lines if other.startswith("Rss:"))
            found += int(rss.split()[1]) * 1024
    return found


def test_a_mapped_file_holds_the_file(tmp_path: Path) -> None:
    """All of it, at an address that no large page can have; dropped pages come back."""
    path, content = tmp_path / "file", bytes(range(256)) * 2**15
    path.write_bytes(content)
    file = MappedFile(path)
    assert file.address % 2**21
    for _ in range(2):
        assert ctypes.string_at(file.address, file.size) == content
        assert resident(str(path)) == len(content)
        file.drop_pages()
        assert resident(str(path)) == 0
    del file
    assert not any(
        line.endswith(str(path)) for line in Path("/proc/self/maps").read_text().splitlines()
    )


def test_a_file_that_cannot_be_mapped_is_an_error(tmp_path: Path) -> None:
    """LiteRT would read what lies at the address."""
    (tmp_path / "empty").touch()
    for name in ("empty", "none"):
        with pytest.raises(OSError, match="Errno"):
            MappedFile(tmp_path / name)


def test_looked_up_rows_do_not_stay_resident() -> None:
    """Whatever the prompt: the prepared weights are another copy of the embedding table."""
    path = str(find_model("tales") / MODEL_FILE)
    before = resident(path)  # of other tests' models
    model = DeviceModel.load("tales", threads=1)
    session = model.runtime.session()
    vocabulary = model.manifest.architecture.vocabulary_size
    session.forward(list(itertools.islice(range(0, vocabulary, vocabulary // 200), 200)))
    assert resident(path) - before < 2**17
