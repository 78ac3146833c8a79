"""Which sessions the prefix cache keeps, and how much memory it takes."""

import errno
import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_edge import DeviceModel, RequestError
from edgewise_edge.errors import CacheMemoryError, RuntimeFailedError
from edgewise_edge.runtime.kv_cache import KVCache
from edgewise_edge.runtime.prefix_cache import MAX_SESSIONS, PREFIX_MEMORY, PrefixCache
from tests.conftest import CONTEXT, token_request
from tests.edge.runtime.recording import (
    OTHER,
    TEXT,
    THIRD,
    RecordingRuntime,
    assert_continues,
    cached,
    store,
)

# The limit.


def test_the_least_recently_used_session_is_evicted_first(
    runtime: RecordingRuntime, block: int
) -> None:
    """When the next request needs more memory than is free."""
    prefixes = PrefixCache(runtime, 2 * block)
    one, two, three = TEXT[:40], OTHER[:40], THIRD[:40]
    store(prefixes, one)
    store(prefixes, two)
    assert prefixes.used_bytes == 2 * block
    store(prefixes, [*one, 7])
    store(prefixes, three)
    assert [cached(prefixes, text) for text in (one, two, three)] == [40, 0, 40]
    assert prefixes.used_bytes == 2 * block


def test_being_copied_counts_as_use(runtime: RecordingRuntime, block: int) -> None:
    """A text that others branch off is worth keeping."""
    prefixes = PrefixCache(runtime, 3 * block)
    store(prefixes, TEXT[:50])
    store(prefixes, OTHER[:50])
    store(prefixes, [*TEXT[:10], *OTHER[80:90]])
    store(prefixes, THIRD[:10])
    assert cached(prefixes, TEXT[:50]) == 50
    assert cached(prefixes, OTHER[:50]) == 0


@pytest.mark.parametrize("limit", [0.01, 0.99, 1.0, 1.5, 2.0, 2.99])
def test_as_many_sessions_are_kept_as_fit_the_limit(
    runtime: RecordingRuntime, block: int, limit: float
) -> None:
    """And never more, after any number of them. Their memory counts, not their tokens."""
    prefixes = PrefixCache(runtime, int(limit * block))
    for number in range(6):
        store(prefixes, [number] * 40)
        assert prefixes.used_bytes == min(int(limit), number + 1) * block


def test_a_session_in_use_counts_towards_the_limit(runtime: RecordingRuntime, block: int) -> None:
    """Its memory is reserved when it begins, not as it grows."""
    prefixes = PrefixCache(runtime, 2 * block)
    store(prefixes, TEXT[:40])
    store(prefixes, OTHER[:40])
    prefixes.acquire(THIRD[:5], 30)
    assert prefixes.used_bytes == block
    assert cached(prefixes, OTHER[:40]) == 40


def test_the_number_of_sessions_has_a_limit(runtime: RecordingRuntime) -> None:
    """Each takes more than its cache, however short it is."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    for first in range(MAX_SESSIONS + 6):
        session = prefixes.acquire([first, 1], 2)
        session.forward([first, 1])
        prefixes.release(session)
        del session
    gc.collect()
    assert len(prefixes) == MAX_SESSIONS
    assert sum(cache() is not None for cache in runtime.caches) == MAX_SESSIONS
    assert cached(prefixes, [5, 1]) == 0
    assert cached(prefixes, [6, 1]) == 2


@pytest.mark.parametrize("used", [10, 64, 65, 150])
def test_memory_that_a_request_did_not_use_does_not_count(
    runtime: RecordingRuntime, held: Callable[[int], int], used: int
) -> None:
    """A request that allows many tokens often ends early. What it did use counts from then on."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    session = prefixes.acquire(TEXT[:used], CONTEXT)
    session.forward(TEXT[:used])
    prefixes.release(session)
    assert prefixes.used_bytes == held(used)
    session = prefixes.acquire(TEXT[: used // 2 + 2], CONTEXT)
    assert session.position == used // 2 + 1
    prefixes.release(session)
    assert prefixes.used_bytes == held(used)


def test_memory_counts_after_a_slide(
    model: DeviceModel, held: Callable[[int], int], runtime: RecordingRuntime
) -> None:
    """The window was full before it, and its memory stays taken."""
    request = token_request(TEXT[: CONTEXT - 10], 20, temperature=0)
    list(model.stream_tokens(replace(request, sliding_window=True)))
    assert len(runtime.take_processed()) < 2 * CONTEXT
    assert model.prefix_cache.used_bytes == held(CONTEXT)


def test_the_address_space_has_a_limit_too(runtime: RecordingRuntime, block: int) -> None:
    """Of three times the memory: a cache reserves more than it has written."""
    prefixes = PrefixCache(runtime, 4 * block)
    for number in range(10):
        session = prefixes.acquire([number, 1], CONTEXT)
        session.forward([number, 1])
        prefixes.release(session)
    assert 0 < len(prefixes) * session.cache.reserved <= 3 * 4 * block
    assert prefixes.used_bytes < 4 * block


def test_a_growing_text_is_seldom_copied(runtime: RecordingRuntime) -> None:
    """Each copy makes space for twice as much."""
    prefixes, caches = PrefixCache(runtime, PREFIX_MEMORY), set()
    for length in range(10, CONTEXT - 10, 4):
        session = prefixes.acquire(TEXT[:length], length + 10)
        session.forward(TEXT[session.position : length])
        caches.add(session.cache)
        prefixes.release(session)
    assert len(caches) <= 4
    assert_continues(prefixes.acquire(TEXT, CONTEXT), TEXT[length:])


def test_with_a_limit_of_zero_nothing_is_kept(runtime: RecordingRuntime) -> None:
    """Neither tokens nor memory."""
    prefixes = PrefixCache(runtime, 0)
    session = prefixes.acquire(TEXT[:10], 10)
    session.forward(TEXT[:10])
    cache = weakref.ref(session.cache)
    prefixes.release(session)
    del session
    gc.collect()
    assert cache() is None
    assert prefixes.used_bytes == 0
    assert cached(prefixes, TEXT[:10]) == 0


@pytest.mark.parametrize("limit", [0, PREFIX_MEMORY])
def test_empty_sessions_are_not_kept(
    exact_model: DeviceModel, runtime: RecordingRuntime, limit: int
) -> None:
    """Requests cancelled before their first step do not pile up."""
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime, limit)
    cancelled = threading.Event()
    cancelled.set()
    for _ in range(3):
        assert list(model.stream_tokens(token_request(TEXT[:10], 5), cancelled)) == []
    gc.collect()
    assert [cache() for cache in runtime.caches] == [None] * 3


def test_a_negative_limit_is_refused() -> None:
    """Before anything is loaded."""
    with pytest.raises(RequestError, match="prefix_memory is -1"):
        DeviceModel.load("tales", prefix_memory=-1)


@pytest.mark.parametrize("length", [1, 10, 35])
def test_reused_memory_shows_no_trace_of_the_evicted_session(
    runtime: RecordingRuntime, block: int, length: int
) -> None:
    """The cache of an evicted session serves the next one, which sees none of its tokens."""
    prefixes = PrefixCache(runtime, block)
    cache = store(prefixes, TEXT[:40]).cache
    session = prefixes.acquire(OTHER[:length], 50)
    assert prefixes.used_bytes == 0
    assert session.position == 0
    assert session.cache is cache
    assert_continues(session, OTHER[: length + 5])


# The system's memory.


def test_short_memory_is_reported_before_any_is_taken(runtime: RecordingRuntime, row: int) -> None:
    """With what is needed and what is available."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY, lambda: 100 * row - 1)
    with pytest.raises(CacheMemoryError, match="shorten the prompt") as error:
        prefixes.acquire(TEXT[:60], 100)
    assert (error.value.needed, error.value.available) == (100 * row, 100 * row - 1)
    assert isinstance(error.value, MemoryError)
    assert runtime.caches == []


@pytest.mark.parametrize("memory", [100, None])
def test_enough_or_unknown_memory_is_no_constraint(
    runtime: RecordingRuntime, row: int, memory: int | None
) -> None:
    """To the last byte."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY, lambda: memory and memory * row)
    assert prefixes.acquire(TEXT[:60], 100).position == 0


def test_a_request_refused_for_memory_runs_no_step(
    model: DeviceModel, uncached: DeviceModel, runtime: RecordingRuntime, row: int
) -> None:
    """A shorter one may still be answered, and the same one once there is more memory."""
    model.prefix_cache.available = lambda: 70 * row
    with pytest.raises(CacheMemoryError):
        list(model.stream_tokens(token_request(TEXT[:60], 11)))
    assert runtime.take_processed() == []
    shorter = token_request(TEXT[:60], 10, seed=5)
    assert list(model.stream_tokens(shorter)) == list(uncached.stream_tokens(shorter))
    model.prefix_cache.available = lambda: None
    assert len(list(model.stream_tokens(token_request(TEXT[:60], 11)))) == 11


def test_no_more_than_the_window_is_reserved(model: DeviceModel, row: int) -> None:
    """However large max_tokens is."""
    model.prefix_cache.available = lambda: CONTEXT * row
    assert len(list(model.stream_tokens(token_request(TEXT[:60], 100_000)))) >= CONTEXT - 60


@pytest.mark.parametrize(("length", "enough"), [(110, True), (111, False)])
def test_memory_of_the_reused_session_is_not_needed_again(
    runtime: RecordingRuntime, row: int, length: int, enough: bool
) -> None:
    """Only the uncached tokens count."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    session = prefixes.acquire(TEXT[:70], CONTEXT)
    session.forward(TEXT[:70])
    prefixes.release(session)
    prefixes.available = lambda: 40 * row
    if enough:
        assert prefixes.acquire(TEXT[:80], length).position == 70
    else:
        with pytest.raises(CacheMemoryError):
            prefixes.acquire(TEXT[:80], length)


class FakeSystem:
    """A system with `memory` bytes, of which each live object takes its share."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.taken: list[tuple[weakref.ref[Any], int]] = []

    def take(self, what: object, size: int) -> None:
        self.taken.append((weakref.ref(what), size))

    def available(self) -> int:
        return self.memory - sum(size for what, size in self.taken if what() is not None)


def test_sessions_are_evicted_before_memory_is_short(
    runtime: RecordingRuntime, row: int, block: int
) -> None:
    """As many as necessary, the least recently used first."""
    prefixes, system = PrefixCache(runtime, PREFIX_MEMORY), FakeSystem(160 * row)
    texts = [TEXT[:50], OTHER[:50], THIRD[:50]]
    for text in texts:
        system.take(store(prefixes, text), 50 * row)
    prefixes.available = system.available
    prefixes.acquire(THIRD[:5], 110)
    assert prefixes.used_bytes == block
    assert [cached(prefixes, text) for text in texts] == [0, 0, 50]


def test_nothing_is_evicted_while_memory_is_enough(
    runtime: RecordingRuntime, row: int, block: int
) -> None:
    """To the last byte."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    store(prefixes, TEXT[:50])
    prefixes.available = lambda: 110 * row
    prefixes.acquire(THIRD[:5], 110)
    assert prefixes.used_bytes == block


def test_memory_of_an_evicted_session_serves_the_next(runtime: RecordingRuntime, row: int) -> None:
    """Freed or reused: either way the request can be answered."""
    prefixes, system = PrefixCache(runtime, PREFIX_MEMORY), FakeSystem(150 * row)
    system.take(store(prefixes, TEXT[:100]).cache, 100 * row)
    prefixes.available = system.available
    session = prefixes.acquire(OTHER[:30], 140)
    assert prefixes.used_bytes == 0
    assert_continues(session, OTHER[:30])


def test_a_session_that_cannot_be_copied_is_evicted(runtime: RecordingRuntime, row: int) -> None:
    """Memory for both is short, and the request can be answered without it."""
    prefixes, system = PrefixCache(runtime, PREFIX_MEMORY), FakeSystem(110 * row)
    system.take(store(prefixes, TEXT[:30]), 30 * row)
    prefixes.available = system.available
    session = prefixes.acquire(TEXT[:40], 100)
    assert session.position == prefixes.used_bytes == 0
    assert_continues(session, TEXT[:40])


def test_memory_is_still_short_after_a_cancelled_request(model: DeviceModel) -> None:
    """It left no session that could be evicted."""
    cancelled = threading.Event()
    cancelled.set()
    list(model.stream_tokens(token_request(TEXT[:10], 5), cancelled))
    model.prefix_cache.available = lambda: 0
    with pytest.raises(CacheMemoryError):
        list(model.stream_tokens(token_request(TEXT[:10], 5)))


class FullRuntime(RecordingRuntime):
    """A runtime whose process gets memory for `room` caches at a time."""

    room = 3

    def new_cache(self, tokens: int | None = None) -> KVCache:
        if sum(cache() is not None for cache in self.caches) >= self.room:
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return super().new_cache(tokens)


def test_a_process_that_gets_no_more_memory_forgets_sessions(exact_model: DeviceModel) -> None:
    """The system may have plenty. With no session left to evict, the request is refused."""
    runtime = FullRuntime(exact_model.runtime, chunk=128)
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime)
    for number in range(10):
        request = token_request([number, *OTHER[:30]], 1 + 20 * number)
        assert list(model.stream_tokens(request))
    runtime.room = 0
    with pytest.raises(CacheMemoryError):
        list(model.stream_tokens(token_request(THIRD[:5], 5)))
    assert len(model.prefix_cache) == 0
    runtime.room = 3
    assert list(model.stream_tokens(token_request(THIRD[:5], 5)))


class StarvedRuntime(FullRuntime):
    """A runtime whose own memory, for a step, is short with `room` caches, which it says in its way."""

    def new_cache(self, tokens: int | None = None) -> KVCache:
        return RecordingRuntime.new_cache(self, tokens)

    def run(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        if sum(cache() is not None for cache in self.caches) >= self.room:
            raise RuntimeFailedError("LiteRT failed at position 0: Failed to invoke")
        return super().run(cache, tokens, position)


def test_a_runtime_that_gets_no_memory_is_tried_again_without_sessions(
    exact_model: DeviceModel,
) -> None:
    """Before the first token, and once: a request is refused if there is no session to forget."""
    runtime = StarvedRuntime(exact_model.runtime, chunk=128)
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime)
    for number in range(10):
        assert list(model.stream_tokens(token_request([number, *OTHER[:30]], 2)))
    stream = model.stream_tokens(token_request(TEXT[:5], 2))
    next(stream)
    kept, runtime.room = len(model.prefix_cache), 0
    with pytest.raises(RuntimeFailedError, match="Failed to invoke"):
        next(stream)
    assert len(model.prefix_cache) > kept
    with pytest.raises(RuntimeFailedError, match="Failed to invoke"):
        list(model.stream_tokens(token_request(THIRD[:5], 5)))
    assert len(model.prefix_cache) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS limits nothing elsewhere")
def test_a_limited_address_space_is_enough_for_any_number_of_requests() -> None:
    """50 MB beyond what the process has after its first request, for 60 different prompts."""
    code = """if True:
        import psutil, resource
        from edgewise_edge import DeviceModel, SamplingParams, TokenRequest
        model = DeviceModel.load(threads=1)
        def answer(first):
            return list(model.stream_tokens(TokenRequest(
                token_ids=(first, 1, 2), prompt_tokens=3, max_tokens=2, sampling=SamplingParams()
            )))
        answer(100)
        limit = psutil.Process().memory_info().vms + 50 * 10**6
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print(sum(len(answer(first)) for first in range(60)))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "120", done.stderr[-500:]
