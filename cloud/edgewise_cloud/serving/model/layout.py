"""How the cache of all slots is divided, and the types of weights and caches."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self, TypeAlias

Tensor: TypeAlias = Any  # of Keras's backend
Pair: TypeAlias = tuple[Tensor, Tensor]  # keys, values
Caches: TypeAlias = list[list[Pair]]
Weights: TypeAlias = dict[str, Tensor]  # by the names of checkpoint.weights()

PREFILL_CHUNK = 64  # tokens
# Tokens scored at once: with the logits of each, they take no longer than a chunk of a prompt.
SCORE_CHUNK = PREFILL_CHUNK // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One sequence per slot, its positions divided into segments."""

    slots: int
    segments: tuple[int, ...]  # lengths; together at least the context window
    chunk: int = PREFILL_CHUNK  # tokens prefilled at once; every segment is a multiple of it
    sizes: tuple[int, ...] = ()  # how many slots a step may compute; empty: 1, 4, 16..., all

    @classmethod
    def for_window(cls, slots: int, window: int) -> Self:
        """Segments that end at 128, 192, 256 and then double, up to the context window.

        A step pays for all positions of its context bucket, at worst twice those in use; each
        bucket is compiled separately.
        """
        lengths, end = list[int](), 0
        for wanted in (128, 192, *(256 << doublings for doublings in range(window.bit_length()))):
            if end < window:
                lengths.append(min(wanted, _whole_chunks(window)) - end)
                end += lengths[-1]
        return cls(slots=slots, segments=tuple(lengths))

    @property
    def contexts(self) -> tuple[int, ...]:
        """The context buckets: the lengths at which segments end."""
        return tuple(accumulate(self.segments))

    def bounds(self, context: int) -> list[tuple[int, int]]:
        """The start position and the length of each segment of a context bucket."""
        lengths = self.segments[: self.contexts.index(context) + 1]
        return [(end - length, length) for length, end in zip(lengths, self.contexts, strict=False)]


def flatten(caches: Caches) -> list[Tensor]:
    """The tensors of all layers and segments, in order."""
    return [part for cache in caches for pair in cache for part in pair]


def _whole_chunks(tokens: int) -> int:
    return -(-tokens // PREFILL_CHUNK) * PREFILL_CHUNK
