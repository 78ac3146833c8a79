"""Sessions that have ended, for requests that begin with the same tokens."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile

from edgewise_edge.errors import CacheMemoryError
from edgewise_edge.memory import available_memory
from edgewise_edge.runtime.kv_cache import KVCache, bytes_per_token
from edgewise_edge.runtime.session import Runtime, Session

PREFIX_MEMORY = 64 * 2**20  # bytes: 870 tokens of GPT-2 small


class PrefixCache:
    """Released sessions, most recently used last. Their caches hold at most `limit` bytes.

    A session in use counts towards `limit` too. A request that shares a prefix with a released
    session continues from there. Its tokens are the same as without the prefix cache, since keys and
    values depend on nothing but the tokens before them. `available` gives the bytes that the system
    has left (None: unknown).
    """

    def __init__(
        self,
        runtime: Runtime,
        limit: int,
        available: Callable[[], int | None] = available_memory,
    ) -> None:
        self.available = available
        self._runtime = runtime
        self._limit = limit
        self._token_bytes = bytes_per_token(runtime.architecture)
        self._sessions: list[Session] = []
        self._released: deque[Session] = deque()  # not in `_sessions` yet
        self._lock = threading.Lock()

    def acquire(self, tokens: Sequence[int], length: int) -> Session:
        """A session that has processed a prefix of `tokens`, but not the last one.

        It will grow to `length` tokens: raises CacheMemoryError, before any memory is taken, if
        the system has not enough left for them.
        """
        with self._locked():
            found, shared = self._longest_match(tokens)
            if found and found.position - shared <= shared:  # reusing it gains more than it loses
                self._sessions.remove(found)
                self._reserve(length, found)
                return Session(self._runtime, found.cache, found.tokens[:shared])
            if found:
                self._sessions.append(self._sessions.pop(self._sessions.index(found)))
            cache = self._reserve(length) or self._new_cache(length)
            if found:
                cache.copy_from(found.cache, shared)
                return Session(self._runtime, cache, found.tokens[:shared])
            return Session(self._runtime, cache, [])

    def release(self, session: Session) -> None:
        """Keep a session for later requests; the caller must not use it any more.

        The garbage collector may close an abandoned stream, and call this, at any point, even
        inside another method of this object. So it never waits for the lock.
        """
        self._released.append(session)
        if self._lock.acquire(blocking=False):
            try:
                self._keep_released()
            finally:
                self._lock.release()

    def cached_prefix(self, tokens: Sequence[int]) -> int:
        """How many of the first `tokens` an acquired session would have processed."""
        with self._locked():
            return self._longest_match(tokens)[1]

    @property
    def used_bytes(self) -> int:
        """Memory that the caches of released sessions take."""
        with self._locked():
            return self._used()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._keep_released()
            yield

    def _keep_released(self) -> None:
        while self._released:
            session = self._released.popleft()
            if session.position:
                self._sessions.append(session)
        self._evict(self._limit)

    def _longest_match(self, tokens: Sequence[int]) -> tuple[Session | None, int]:
        """The session that shares the longest prefix with `tokens`, and its length."""
        best, longest = None, 0
        for session in self._sessions:
            # The last token must be processed for its logits.
            shared = min(_common_prefix(session.tokens, tokens), len(tokens) - 1)
            if shared > longest:
                best, longest = session, shared
        return best, longest

    def _reserve(self, length: int, reused: Session | None = None) -> KVCache | None:
        """Evict sessions until `length` tokens fit, some of which `reused` holds already.

        Returns the cache of an evicted session, if any: reusing its memory saves asking for more.
        """
        evicted = self._evict(max(0, self._limit - length * self._token_bytes))
        needed = length * self._token_bytes - (self._bytes(reused) if reused else 0)
        while (available := self.available()) is not None and (
            available < needed - (self._bytes(evicted) if evicted else 0)
        ):
            if not self._sessions:
                raise CacheMemoryError(needed, available)
            evicted = self._evict(self._used() - 1)
        return evicted.cache if evicted else None

    def _new_cache(self, length: int) -> KVCache:
        try:
            return self._runtime.new_cache()
        except OSError as error:
            raise CacheMemoryError(length * self._token_bytes, self.available() or 0) from error

    def _evict(self, limit: int) -> Session | None:
        """Evict least recently used sessions down to `limit` bytes; the last one evicted."""
        evicted = None
        while self._used() > limit:
            evicted = self._sessions.pop(0)
        return evicted

    def _used(self) -> int:
        return sum(map(self._bytes, self._sessions))

    def _bytes(self, session: Session) -> int:
        return session.position * self._token_bytes


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
