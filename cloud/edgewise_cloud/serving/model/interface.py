"""What a batch runs, whatever computes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.serving.model.layout import Layout


@dataclass(frozen=True, slots=True)
class Compilations:
    """What is to be compiled: each compiles one program when it is called, in any thread."""

    first: Sequence[Callable[[], None]] = ()  # enough to answer every request
    later: Sequence[Callable[[], None]] = ()  # while others run: until then larger ones are used


class Programs(Protocol):
    """What a batch runs."""

    @property
    def layout(self) -> Layout:
        """How the caches are divided."""

    def compilations(self, sizes: Sequence[int], prefill_contexts: Sequence[int]) -> Compilations:
        """Those of the programs for these batch sizes, ascending, and contexts of prompts.

        Those that are compiled already are left out.
        """

    def reset(self) -> None:
        """Empty the caches."""

    def decode(self, tokens: list[int], positions: list[int], context: int) -> NDArray[np.float32]:
        """The logits [rows, vocabulary] after one token in each of the first slots."""

    def prefill(self, tokens: list[int], slot: int, position: int, context: int) -> None:
        """Prefill one chunk of a slot's prompt."""

    def prefill_two(
        self, tokens: list[int], slots: list[int], positions: list[int], context: int
    ) -> None:
        """Prefill a chunk of each of two slots' prompts, one after the other in `tokens`."""

    def score(
        self, tokens: list[int], following: list[int], slot: int, position: int, context: int
    ) -> NDArray[np.float32]:
        """Prefill one chunk of a slot's tokens; packed scores of those after each (packed_scores.py)."""

    def copy(self, source: int, target: int) -> None:
        """Copy one slot's keys and values to another slot."""
