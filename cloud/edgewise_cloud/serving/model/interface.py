"""What a batch runs, whatever computes it."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Layout


class Programs(Protocol):
    """What a batch runs."""

    @property
    def layout(self) -> Layout:
        """How the caches are divided."""

    def reset(self) -> None:
        """Empty the caches."""

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """The logits [rows, vocabulary] after one token in each of the first slots."""

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """Prefill one chunk of a slot's prompt."""

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """Prefill one chunk of a slot's tokens; packed scores of those after each (packed_scores.py)."""

    def copy(self, source: int, target: int) -> None:
        """Copy one slot's keys and values to another slot."""
