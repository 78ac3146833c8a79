"""A model's file in memory, of which only what was read lately counts as resident."""

import ctypes
import mmap
import os
import sys
from contextlib import suppress
from pathlib import Path

POSSIBLE = sys.platform == "linux"
_LARGE_PAGE = 2**21  # bytes


class MappedFile:
    """The file at `path`, mapped for reading: its `address` and `size` in bytes.

    It lies so that the system cannot map large pages: a row of an embedding table that is looked up
    would make two megabytes resident instead of 64 kB. Raises OSError.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.size = os.fstat(file.fileno()).st_size
            # Python's mmap takes no address, so it reserves the space, and gives it back at its end.
            self._space = mmap.mmap(-1, self.size + 2 * _LARGE_PAGE, flags=mmap.MAP_PRIVATE)
            start = ctypes.addressof(ctypes.c_char.from_buffer(self._space))
            self.address = -(-start // _LARGE_PAGE) * _LARGE_PAGE + mmap.PAGESIZE
            self._offset = self.address - start
            _map(self.address, self.size, file.fileno())

    def drop_pages(self) -> None:
        """Give up what was read: it is no longer resident here, but still in the page cache."""
        with suppress(OSError):
            self._space.madvise(mmap.MADV_DONTNEED, self._offset, self.size)


def _map(address: int, size: int, descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    shared_and_fixed = mmap.MAP_SHARED | 0x10
    found = libc.mmap(
        ctypes.c_void_p(address),
        ctypes.c_size_t(size),
        mmap.PROT_READ,
        shared_and_fixed,
        descriptor,
        ctypes.c_long(0),
    )
    if found != address:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
