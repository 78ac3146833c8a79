"""Texts that the model has read already, for requests that begin with the same tokens."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from edgewise_edge.errors import CacheMemoryError
from edgewise_edge.memory import available_memory
from edgewise_edge.runtime.kv_cache import Cache, row_bytes
from edgewise_edge.runtime.session import Runtime, Session

PREFIX_MEMORY = 64 * 2**20  # bytes: 870 tokens of GPT-2 small


class Prefixes:
    """Sessions that have ended, most recently used last, and at most `limit` bytes of their caches.

    The cache in use counts too. A request that begins as one of them did goes on from there. What
    it reads and writes is what it would have been without: a cache holds nothing but what its tokens
    make of it.
    """

    def __init__(self, runtime: Runtime, limit: int) -> None:
        self._runtime = runtime
        self._limit = limit
        self._row_bytes = row_bytes(runtime.architecture)
        self._sessions: list[Session] = []
        self._ended: deque[Session] = deque()  # not among them yet
        self._lock = threading.Lock()

    def session(self, tokens: Sequence[int], room: int) -> Session:
        """A session that has read a beginning of `tokens`, but not the last of them.

        It will hold up to `room` tokens: raises CacheMemoryError, before it takes any memory, when
        the system has not enough left for them.
        """
        with self._locked():
            found, shared = self._best(tokens)
            if found and found.position - shared <= shared:  # more is won than lost
                self._sessions.remove(found)
                self._make_room(room, found)
                return Session(self._runtime, found.cache, found.tokens[:shared])
            if found:
                self._sessions.append(self._sessions.pop(self._sessions.index(found)))
            cache = self._make_room(room) or self._new_cache(room)
            if found:
                cache.take(found.cache, shared)
                return Session(self._runtime, cache, found.tokens[:shared])
            return Session(self._runtime, cache, [])

    def shared(self, tokens: Sequence[int]) -> int:
        """How many tokens a session would have read already."""
        with self._locked():
            return self._best(tokens)[1]

    def keep(self, session: Session) -> None:
        """Remember a session that is over; it must not be used any more.

        An abandoned stream may be collected, and call this, in the middle of anything, this
        object's own work included: so it waits for no lock.
        """
        self._ended.append(session)
        if self._lock.acquire(blocking=False):
            try:
                self._take_in()
            finally:
                self._lock.release()

    @property
    def bytes(self) -> int:
        """Memory that the caches take."""
        with self._locked():
            return self._held()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._take_in()
            yield

    def _take_in(self) -> None:
        while self._ended:
            session = self._ended.popleft()
            if session.position:
                self._sessions.append(session)
        self._evict(self._limit)

    def _best(self, tokens: Sequence[int]) -> tuple[Session | None, int]:
        """The session that shares the longest beginning with `tokens`, and its length."""
        best, longest = None, 0
        for session in self._sessions:
            # The last token must be read for its logits.
            shared = min(_shared(session.tokens, tokens), len(tokens) - 1)
            if shared > longest:
                best, longest = session, shared
        return best, longest

    def _make_room(self, room: int, taken: Session | None = None) -> Cache | None:
        """Forget what has to go for `room` tokens, of which `taken` holds some already.

        The cache of one that went, to be used anew: its memory need not be asked for again.
        """
        gone = self._evict(max(0, self._limit - room * self._row_bytes))
        wanted = room * self._row_bytes - (self._bytes(taken) if taken else 0)
        while (available := available_memory()) is not None and (
            available < wanted - (self._bytes(gone) if gone else 0)
        ):
            if not self._sessions:
                raise CacheMemoryError(wanted, available)
            gone = self._evict(self._held() - 1)
        return gone.cache if gone else None

    def _new_cache(self, room: int) -> Cache:
        try:
            return Cache(self._runtime.architecture)
        except OSError as error:
            raise CacheMemoryError(room * self._row_bytes, available_memory() or 0) from error

    def _evict(self, limit: int) -> Session | None:
        """Forget the least recently used until the others hold `limit` bytes at most."""
        gone = None
        while self._held() > limit:
            gone = self._sessions.pop(0)
        return gone

    def _held(self) -> int:
        return sum(map(self._bytes, self._sessions))

    def _bytes(self, session: Session) -> int:
        return session.position * self._row_bytes


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
