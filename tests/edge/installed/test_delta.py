"""Differences between model files."""

import lzma
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge import ModelCorruptError
from edgewise_edge.installed.delta import make_delta, patched

SIZE = 3_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Bytes without a pattern."""
    path = tmp_path / "old"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


def consume(chunks: Iterator[bytes]) -> None:
    """Make all of it, and keep none."""
    for _ in chunks:
        pass


@pytest.mark.parametrize("size", [SIZE, SIZE - 70_001, SIZE + 70_001, 0])
def test_a_delta_makes_the_new_file_of_the_old_one(tmp_path: Path, old: Path, size: int) -> None:
    """Files may grow and shrink; what is alike takes no space."""
    generator = np.random.default_rng(1)
    content = np.frombuffer((old.read_bytes() + generator.bytes(70_001))[:size], np.uint8).copy()
    content[: size // 10] += generator.integers(0, 3, size // 10, np.uint8)
    new, delta = tmp_path / "new", tmp_path / "delta"
    new.write_bytes(content.tobytes())
    assert make_delta(old, new, delta) == delta.stat().st_size < max(100, size // 10 + 40_000)
    assert b"".join(patched(old, delta, size)) == new.read_bytes()


def test_a_delta_of_another_size_is_refused(tmp_path: Path, old: Path) -> None:
    """And no more is made than the size allows."""
    delta = tmp_path / "delta"
    make_delta(old, old, delta)
    for size in (SIZE - 1, SIZE + 1):
        made: list[bytes] = []
        with pytest.raises(ModelCorruptError, match="does not make a file of"):
            made.extend(patched(old, delta, size))
        assert SIZE - 2**20 <= sum(map(len, made)) <= size


def test_a_damaged_delta_is_refused(tmp_path: Path, old: Path) -> None:
    """A byte flipped, an end cut off, other bytes, none."""
    delta = tmp_path / "delta"
    make_delta(old, old, delta)
    sound = delta.read_bytes()
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    for content in (bytes(flipped), sound[:-20], b"not xz", b""):
        delta.write_bytes(content)
        with pytest.raises(ModelCorruptError):
            consume(patched(old, delta, SIZE))


def test_a_delta_that_wants_too_much_memory_is_refused(tmp_path: Path, old: Path) -> None:
    """A dictionary of a gigabyte."""
    content = bytearray(lzma.compress(bytes(100), preset=0))
    delta = tmp_path / "delta"
    # The size of the dictionary is one byte of the block's header, which has a checksum.
    header = bytearray(content[12:24])
    header[4] = 36
    header[8:12] = zlib.crc32(bytes(header[:8])).to_bytes(4, "little")
    content[12:24] = header
    delta.write_bytes(bytes(content))
    with pytest.raises(ModelCorruptError, match=r"[Mm]emory"):
        consume(patched(old, delta, 100))


def test_memory_does_not_depend_on_the_size(tmp_path: Path, old: Path) -> None:
    """A bomb of compressed zeros is read in pieces."""
    delta = tmp_path / "delta"
    delta.write_bytes(lzma.compress(bytes(40_000_000), preset=0))
    tracemalloc.start()
    try:
        with pytest.raises(ModelCorruptError):
            consume(patched(old, delta, 30_000_000))
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
