"""Finding the session that shares the longest prefix with a text, and the least recently used one."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import compress, count
from operator import attrgetter, ne

from edgewise_edge.runtime.session import Session

_tokens = attrgetter("tokens")


class PrefixIndex:
    """Sessions, which must not change while they are in it. Not thread-safe.

    They are sorted by their tokens. The one that shares the longest prefix with a text is then next
    to the place where the text itself would be, so a search compares few of them.
    """

    def __init__(self) -> None:
        self.held = 0  # bytes of memory that their caches take
        self.reserved = 0  # bytes of address space
        self._sorted: list[Session] = []
        self._by_use: dict[Session, None] = {}  # the most recently used last

    def __len__(self) -> int:
        """How many sessions there are."""
        return len(self._sorted)

    def add(self, session: Session) -> None:
        """Add one, as the most recently used."""
        self._sorted.insert(self._place(session.tokens), session)
        self._by_use[session] = None
        self.held += session.cache.held
        self.reserved += session.cache.reserved

    def remove(self, session: Session) -> None:
        """Remove one."""
        self._sorted.remove(session)
        del self._by_use[session]
        self.held -= session.cache.held
        self.reserved -= session.cache.reserved

    def pop_oldest(self) -> Session:
        """Remove the least recently used one."""
        session = next(iter(self._by_use))
        self.remove(session)
        return session

    def longest_match(self, tokens: list[int]) -> tuple[Session | None, int]:
        """The session that shares the longest prefix with `tokens`, and its length.

        The last token is not part of the prefix: it must be processed for its logits. Of several
        sessions, the one that has the fewest tokens after the prefix, if one has none.
        """
        place = self._place(tokens)
        neighbours = self._sorted[max(0, place - 1) : place + 1]
        shared = max((_common_prefix(near.tokens, tokens) for near in neighbours), default=0)
        shared = min(shared, len(tokens) - 1)
        if shared < 1:
            return None, 0
        return self._sorted[self._place(tokens[:shared])], shared

    def _place(self, tokens: list[int]) -> int:
        return bisect_left(self._sorted, tokens, key=_tokens)


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """Its length. Without a loop in Python: a text has a thousand tokens, and time counts."""
    differing = compress(count(), map(ne, one, other))
    return next(differing, min(len(one), len(other)))
