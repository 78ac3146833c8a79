"""The keys and values of a sequence, in memory that the model reads in place."""

import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.arrays import aligned, stacked
from edgewise_edge.runtime.signatures import cache_names
from edgewise_edge.runtime.step import BoundStep
from edgewise_edge.store.manifest import Architecture

# A decode step attends to its cached rows padded to a multiple of this. A smaller multiple resizes
# the model more often (0.4 ms for GPT-2 small), a larger one reads more masked rows.
PADDING = 64
# New rows whose pages a decode step has the system map at once: page by page, on first write, each
# takes twice as long, because the step has evicted what the system needs for it.
_AHEAD = 8
_BOUND_ARRAY = 1536  # bytes that LiteRT and Python take for each array of a bound step, measured


def padded(rows: int) -> int:
    """`rows` rounded up to a multiple of PADDING, which is also the least."""
    return max(1, -(-rows // PADDING)) * PADDING


def bytes_per_token(shape: Architecture, dtype: type[np.generic]) -> int:
    """Bytes that a cache of `dtype` holds for each token."""
    return shape.layers * 2 * shape.width * np.dtype(dtype).itemsize


class KVCache:
    """Space for `tokens` tokens, rounded up as decode needs it (None: for a whole context window).

    `rows` is (layers x key | value, tokens, heads, head size), `logits` (vocabulary,) is what the last
    step returned. It reserves `reserved` bytes of the address space; the system commits them as they
    are written.
    """

    def __init__(
        self, shape: Architecture, tokens: int | None = None, dtype: type[np.generic] = np.float32
    ) -> None:
        self._names = cache_names(shape)
        self._row_bytes = bytes_per_token(shape, dtype) // len(self._names)
        self.tokens = padded(shape.context_window if tokens is None else tokens)
        size = (self.tokens, shape.heads, shape.head_size)
        self.rows: NDArray[Any] = stacked(shape.layers * 2, size, dtype)
        self.logits: NDArray[np.float32] = aligned((shape.vocabulary_size,), np.float32)
        self.reserved = self.rows.nbytes + self.logits.nbytes
        # Binding takes time, so it is kept for the next decode step, in this session or another.
        self.decode_step: BoundStep | None = None
        self.written = 0  # rows that were ever written, as far as `wrote` was told
        self._mapped = 0  # rows whose pages are there, as far as `map_ahead` knows

    def wrote(self, rows: int) -> None:
        """The first `rows` rows have been written."""
        self.written = max(self.written, rows)

    def map_ahead(self, position: int) -> None:
        """Have the pages mapped of the row at `position` and of some after it, unless they are."""
        if position >= max(self._mapped, self.written):
            self._mapped = position + _AHEAD
            numbers, each_page = self.rows[0, 0].size, mmap.PAGESIZE // self.rows.itemsize
            pages = slice(position * numbers, self._mapped * numbers, each_page)
            self.rows.reshape(len(self.rows), -1)[:, pages] = 0

    @property
    def held(self) -> int:
        """Bytes of memory that it takes: whole pages of each array, and the bound decode step."""
        rows = _pages(self.written * self._row_bytes) + 2 * _BOUND_ARRAY
        return len(self._names) * rows + _pages(self.logits.nbytes)

    def inputs(self, rows: int) -> dict[str, NDArray[Any]]:
        """The first `rows` rows as the model's inputs."""
        return dict(zip(self._names, self.rows[:, :rows], strict=True))

    def copy_from(self, other: "KVCache", rows: int) -> None:
        """Copy the first `rows` rows of another cache."""
        self.rows[:, :rows] = other.rows[:, :rows]
        self.wrote(rows)


def _pages(size: int) -> int:
    """Bytes of the pages that so many bytes take."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
