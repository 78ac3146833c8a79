"""The keys and values of a text, in memory that the model reads."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.arrays import stacked
from edgewise_edge.store.manifest import Architecture

# A decode step attends to its cached rows in multiples of this: finer, and the model is resized
# more often (0.4 ms for GPT-2 small); coarser, and it reads more rows that it then masks.
GRANULE = 64


def cache_names(shape: Architecture) -> list[str]:
    """The model's names for its caches, in the order of Cache.rows."""
    return [f"{kind}_{layer}" for layer in range(shape.layers) for kind in ("key", "value")]


def row_bytes(shape: Architecture) -> int:
    """Bytes a cache holds for each token."""
    return shape.layers * 2 * shape.width * np.dtype(np.float32).itemsize


class Cache:
    """Room for a whole context window; memory is taken as rows are written.

    `rows` is (layers x key | value, tokens, heads, head size).
    """

    def __init__(self, shape: Architecture) -> None:
        self._shape = shape
        capacity = whole_granules(shape.context_window)
        rows = (capacity, shape.heads, shape.head_size)
        self.rows: NDArray[np.float32] = stacked(shape.layers * 2, rows, np.float32)
        # Runtime's own: how the decode step is bound to this cache, and how many rows its mask shows.
        self.decode: Any = None
        self.visible: int | None = None

    def beginning(self, rows: int) -> dict[str, NDArray[np.float32]]:
        """The first `rows` rows, by the model's names."""
        return dict(zip(cache_names(self._shape), self.rows[:, :rows], strict=True))

    def take(self, other: "Cache", rows: int) -> None:
        """Begin with the same rows as another cache."""
        self.rows[:, :rows] = other.rows[:, :rows]


def whole_granules(rows: int) -> int:
    """`rows` rounded up to whole granules, at least one."""
    return max(1, -(-rows // GRANULE)) * GRANULE
