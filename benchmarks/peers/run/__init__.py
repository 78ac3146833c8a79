"""Workers that generate: `python -m benchmarks.peers.run`. Each imports one library only."""

from collections.abc import Callable

Known = Callable[[int], None]

# Generates the new tokens for (prompt, new_tokens), greedily and with an empty cache, and calls its
# third argument with each token as soon as it is known.
Generate = Callable[[list[int], int, Known], None]
