"""Workers that generate: `python -m benchmarks.peers.run`. Each imports one library only."""

from collections.abc import Callable, Iterable

# Yields the new tokens for (prompt, new_tokens) as each is known, greedily, with an empty cache.
Generate = Callable[[list[int], int], Iterable[int]]
