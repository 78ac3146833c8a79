"""Differences between model files."""

import lzma
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from edgewise_edge import ModelCorruptError, StoreError
from edgewise_edge.installed.delta import apply_delta, make_delta

SIZE = 3_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Bytes without a pattern."""
    path = tmp_path / "old"
    path.write_bytes(np.random.default_rng(0).bytes(SIZE))
    return path


@pytest.mark.parametrize("size", [SIZE, SIZE - 70_001, SIZE + 70_001, 0])
def test_a_delta_makes_the_new_file_of_the_old_one(tmp_path: Path, old: Path, size: int) -> None:
    """Files may grow and shrink; what is alike takes no space."""
    generator = np.random.default_rng(1)
    content = np.frombuffer((old.read_bytes() + generator.bytes(70_001))[:size], np.uint8).copy()
    content[: size // 10] += generator.integers(0, 3, size // 10, np.uint8)
    new, delta, out = (tmp_path / name for name in ("new", "delta", "out"))
    new.write_bytes(content.tobytes())
    assert make_delta(old, new, delta) == delta.stat().st_size < max(100, size // 10 + 40_000)
    apply_delta(old, delta, out, size)
    assert out.read_bytes() == new.read_bytes()


def test_a_delta_of_another_size_is_refused(tmp_path: Path, old: Path) -> None:
    """Nothing is left, and no more is written than the size allows."""
    delta, out = tmp_path / "delta", tmp_path / "out"
    make_delta(old, old, delta)
    for size in (SIZE - 1, SIZE + 1):
        with pytest.raises(ModelCorruptError, match="does not make a file of"):
            apply_delta(old, delta, out, size)
        assert not out.exists()


def test_a_damaged_delta_is_refused(tmp_path: Path, old: Path) -> None:
    """A byte flipped, an end cut off, other bytes, none."""
    delta, out = tmp_path / "delta", tmp_path / "out"
    make_delta(old, old, delta)
    sound = delta.read_bytes()
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    for content in (bytes(flipped), sound[:-20], b"not xz", b""):
        delta.write_bytes(content)
        with pytest.raises(ModelCorruptError):
            apply_delta(old, delta, out, SIZE)
        assert not out.exists()
    delta.unlink()
    with pytest.raises(StoreError):
        apply_delta(old, delta, out, SIZE)


def test_a_delta_that_wants_too_much_memory_is_refused(tmp_path: Path, old: Path) -> None:
    """A dictionary of a gigabyte."""
    content = bytearray(lzma.compress(bytes(100), preset=0))
    delta, out = tmp_path / "delta", tmp_path / "out"
    # The size of the dictionary is one byte of the block's header, which has a checksum.
    header = bytearray(content[12:24])
    header[4] = 36
    header[8:12] = zlib.crc32(bytes(header[:8])).to_bytes(4, "little")
    content[12:24] = header
    delta.write_bytes(bytes(content))
    with pytest.raises(ModelCorruptError, match=r"[Mm]emory"):
        apply_delta(old, delta, out, 100)


def test_memory_does_not_depend_on_the_size(tmp_path: Path, old: Path) -> None:
    """A bomb of compressed zeros is read in pieces."""
    delta, out = tmp_path / "delta", tmp_path / "out"
    delta.write_bytes(lzma.compress(bytes(40_000_000), preset=0))
    tracemalloc.start()
    try:
        with pytest.raises(ModelCorruptError):
            apply_delta(old, delta, out, 30_000_000)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
