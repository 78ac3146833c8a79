"""The difference between two model files of equal layout, which compresses well.

The new bytes minus the old ones, mod 256, over the length that both have; the rest as it is;
compressed with xz. Memory does not depend on the size of the files.
"""

import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from edgewise_edge.errors import ModelCorruptError

_CHUNK = 2**20  # bytes
_PRESET = 6  # a dictionary of 8 MiB
_MEMORY = 2**26  # bytes that decompressing may take


def make_delta(old: Path, new: Path, out: Path) -> int:
    """Write what makes `new` of `old` to the file `out`; its size. Raises OSError."""
    compressor = lzma.LZMACompressor(preset=_PRESET)
    with old.open("rb") as before, new.open("rb") as after, out.open("wb") as file:
        while chunk := after.read(_CHUNK):
            file.write(compressor.compress(_combined(chunk, before, np.subtract)))
        file.write(compressor.flush())
        return file.tell()


def patched(old: Path, delta: Path, size: int) -> Iterator[bytes]:
    """What `delta` makes of `old`: chunks of a file of `size` bytes, of which the caller takes the sha256.

    Raises ModelCorruptError for a damaged delta, or one of another size, and OSError.
    """
    with old.open("rb") as before:
        for chunk in _decompressed(delta, size):
            yield _combined(chunk, before, np.add)


def _combined(chunk: bytes, before: BinaryIO, operation: np.ufunc) -> bytes:
    """`chunk` with the old file's next bytes; its end as it is where there are no more."""
    old = before.read(len(chunk))
    result = np.frombuffer(chunk, np.uint8).copy()
    common = result[: len(old)]
    operation(common, np.frombuffer(old, np.uint8), out=common)
    return result.tobytes()


def _decompressed(delta: Path, size: int) -> Iterator[bytes]:
    """In chunks, `size` bytes in all."""
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    left = size
    try:
        with delta.open("rb") as file:
            while not decompressor.eof:
                compressed = file.read(_CHUNK) if decompressor.needs_input else b""
                if decompressor.needs_input and not compressed:
                    raise ModelCorruptError(f"{delta.name} ends too early")
                chunk = decompressor.decompress(compressed, _CHUNK)
                left -= len(chunk)
                if left < 0:
                    break
                yield chunk
    except lzma.LZMAError as error:
        raise ModelCorruptError(f"{delta.name} is damaged: {error}") from error
    if left:
        raise ModelCorruptError(f"{delta.name} does not make a file of {size:,} bytes")
