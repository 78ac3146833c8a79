"""Sessions that have ended, for requests that begin with the same tokens."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from edgewise_edge.errors import CacheMemoryError
from edgewise_edge.memory import available_memory
from edgewise_edge.runtime.kv_cache import KVCache
from edgewise_edge.runtime.prefix_index import PrefixIndex
from edgewise_edge.runtime.session import Runtime, Session

PREFIX_MEMORY = 64 * 2**20  # bytes: 870 tokens of GPT-2 small, or 1,740 in half width
MAX_SESSIONS = 64
# A cache reserves more address space than it fills. That may be limited, and Windows commits it all.
MAX_RESERVED = 3  # bytes per byte of the limit


class PrefixCache:
    """At most MAX_SESSIONS released sessions, whose caches take at most `limit` bytes of memory.

    A session in use counts towards `limit` too. A request that shares a prefix with a released
    session continues from there. Its tokens are the same as without the prefix cache, up to near-ties:
    the rest of the prompt is processed in other chunks. `available` gives the bytes that the system
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
        self._token_bytes = runtime.bytes_per_token
        self._index = PrefixIndex()
        self._released: deque[Session] = deque()  # not in the index yet
        self._lock = threading.Lock()

    def acquire(self, tokens: Sequence[int], length: int) -> Session:
        """A session that has processed a prefix of `tokens`, but not the last one.

        It may grow to `length` tokens. Released sessions are evicted until there is memory for them;
        raises CacheMemoryError, before any is taken, if that is not enough.
        """
        with self._locked():
            found, shared = self._index.longest_match(list(tokens))
            if found is None:
                return Session(self._runtime, self._new_cache(length), [])
            self._index.remove(found)
            worth_losing = found.position - shared <= shared
            if worth_losing and found.cache.tokens >= length:
                self._make_room(length, found.cache)
                self._await_memory(length - found.cache.written)
                return Session(self._runtime, found.cache, found.tokens[:shared])
            try:
                cache = self._new_cache(length)
            except CacheMemoryError:  # there may be enough without the session to copy
                del found
                return Session(self._runtime, self._new_cache(length), [])
            cache.copy_from(found.cache, shared)
            if not worth_losing:
                self._index.add(found)
                self._make_room(length, cache)
            return Session(self._runtime, cache, found.tokens[:shared])

    def release(self, session: Session) -> None:
        """Keep a session for later requests; the caller must not use it any more.

        The garbage collector may close an abandoned stream, and call this, at any point, even
        inside another method of this object. So it never waits for the lock.
        """
        session.cache.wrote(session.position)
        self._released.append(session)
        if self._lock.acquire(blocking=False):
            try:
                self._keep_released()
            finally:
                self._lock.release()

    def clear(self) -> bool:
        """Evict all released sessions; whether there were any."""
        with self._locked():
            return self._evict(0, 0) is not None

    def cached_prefix(self, tokens: Sequence[int]) -> int:
        """How many of the first `tokens` an acquired session would have processed."""
        with self._locked():
            return self._index.longest_match(list(tokens))[1]

    @property
    def used_bytes(self) -> int:
        """Memory that the caches of released sessions take."""
        with self._locked():
            return self._index.held

    def __len__(self) -> int:
        """How many released sessions are kept."""
        with self._locked():
            return len(self._index)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            self._keep_released()
            yield

    def _keep_released(self) -> None:
        while self._released:
            session = self._released.popleft()
            cache, reserved = session.cache, MAX_RESERVED * self._limit
            if session.position and cache.held <= self._limit and cache.reserved <= reserved:
                self._index.add(session)
                self._evict(self._limit, reserved)

    def _new_cache(self, length: int) -> KVCache:
        """Memory for `length` tokens: an evicted session's, which saves asking the system, or new.

        A new one has space for twice as many, so that a growing text is seldom copied.
        """
        tokens = min(2 * length, self._runtime.architecture.context_window)
        spare = self._evict(
            self._limit - length * self._token_bytes,
            MAX_RESERVED * self._limit - tokens * self._token_bytes,
        )
        while True:
            if spare and not spare.cache.written <= length <= spare.cache.tokens:
                spare = None
            self._await_memory(length - (spare.cache.written if spare else 0))
            if spare:
                return spare.cache
            try:
                return self._runtime.new_cache(tokens)
            except OSError as error:  # of address space, or of what may be committed
                if not self._index:
                    raise CacheMemoryError(length * self._token_bytes, 0) from error
                # Half of them: a step, and the rest of the process, need memory too.
                spare = self._evict(self._index.held, self._index.reserved // 2)

    def _make_room(self, length: int, cache: KVCache) -> None:
        """Evict sessions so that `cache` may grow to `length` tokens within the limits."""
        held = max(cache.held, length * self._token_bytes)
        self._evict(self._limit - held, MAX_RESERVED * self._limit - cache.reserved)

    def _await_memory(self, tokens: int) -> None:
        """Evict sessions until the system has memory for so many tokens."""
        needed = tokens * self._token_bytes
        while (available := self.available()) is not None and available < needed:
            if not self._index:
                raise CacheMemoryError(needed, available)
            self._index.pop_oldest()

    def _evict(self, held: int, reserved: int) -> Session | None:
        """Evict the least recently used sessions down to those limits; the last one evicted."""
        evicted, index = None, self._index
        while index and (
            index.held > held or index.reserved > reserved or len(index) > MAX_SESSIONS
        ):
            evicted = index.pop_oldest()
        return evicted
