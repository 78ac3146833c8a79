"""Requests that share a prefix: it is processed once, and the answers do not change."""

import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from edgewise_edge import DeviceModel, RuntimeFailedError
from edgewise_edge.runtime.prefix_cache import PREFIX_MEMORY, PrefixCache
from tests.conftest import CONTEXT, token_request
from tests.edge.runtime.recording import (
    OTHER,
    TEXT,
    RecordingRuntime,
    assert_continues,
    cached,
    store,
)

GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.0, "top_k": 0, "seed": 5, "repetition_penalty": 1.3}


# The same tokens as without the prefix cache.

PAIRS = {
    "the same again": (TEXT[:40], TEXT[:40]),
    "a token more": (TEXT[:40], TEXT[:41]),
    "much more": (TEXT[:40], TEXT[:130]),
    "a token less": (TEXT[:40], TEXT[:39]),
    "much less": (TEXT[:100], TEXT[:20]),
    "another end": (TEXT[:50], [*TEXT[:45], *OTHER[:10]]),
    "another last token": (TEXT[:50], [*TEXT[:49], OTHER[0]]),
    "another middle": (TEXT[:100], [*TEXT[:50], *OTHER[50:100]]),
    "only the first token": (TEXT[:50], [TEXT[0], *OTHER[:30]]),
    "nothing": (TEXT[:50], OTHER[:50]),
    "one token": (TEXT[:1], TEXT[:1]),
    "across a padding boundary": (TEXT[:60], [*TEXT[:58], *OTHER[:10]]),
}


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS.keys())
def test_earlier_requests_do_not_change_an_answer(
    model: DeviceModel,
    uncached: DeviceModel,
    first: list[int],
    second: list[int],
    sampling: dict[str, float],
) -> None:
    """Both requests, repeated, give the tokens of a model without a prefix cache."""
    for prompt in (first, second, first, second):
        request = token_request(prompt, 25, **sampling)
        assert list(model.stream_tokens(request)) == list(uncached.stream_tokens(request))


@pytest.mark.parametrize("shared", [1, 10, 24, 25, 26, 40, 49])
def test_logits_after_a_shared_prefix_are_right(runtime: RecordingRuntime, shared: int) -> None:
    """Wherever the second text diverges from the first, which was longer."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    store(prefixes, TEXT[:50])
    tokens = [*TEXT[:shared], *OTHER[shared : shared + 20]]
    session = prefixes.acquire(tokens, CONTEXT)
    assert session.position == shared
    assert_continues(session, tokens[shared:])


def test_a_long_conversation_is_prefilled_once(
    model: DeviceModel, uncached: DeviceModel, runtime: RecordingRuntime
) -> None:
    """Each turn processes its new tokens and the last token of the previous answer."""
    text = TEXT[:5]
    expected: list[int] = []
    for turn in range(6):
        request = token_request(text, 12, seed=turn)
        answer = list(model.stream_tokens(request))
        assert answer == list(uncached.stream_tokens(request))
        expected += [*text[len(expected) :], *answer[:-1]]
        text = [*text, *answer, *OTHER[turn * 10 : turn * 10 + 10]]
    assert runtime.take_processed() == expected


# Which tokens are processed.


def test_only_uncached_tokens_are_processed(model: DeviceModel, runtime: RecordingRuntime) -> None:
    """When a prompt continues an earlier one."""
    list(model.stream_tokens(token_request(TEXT[:60], 1)))
    assert runtime.take_processed() == TEXT[:60]
    list(model.stream_tokens(token_request([*TEXT[:60], *OTHER[:5]], 1)))
    assert runtime.take_processed() == OTHER[:5]


@pytest.mark.parametrize("length", [60, 59, 30, 2])
def test_the_last_token_is_always_processed(
    model: DeviceModel, runtime: RecordingRuntime, length: int
) -> None:
    """Even if the whole prompt is cached: its logits are needed."""
    list(model.stream_tokens(token_request(TEXT[:60], 8)))
    runtime.take_processed()
    list(model.stream_tokens(token_request(TEXT[:length], 1)))
    assert runtime.take_processed() == [TEXT[length - 1]]


def test_a_model_tells_how_much_of_a_prompt_is_cached(
    model: DeviceModel, runtime: RecordingRuntime
) -> None:
    """Asking changes nothing: the next request processes the uncached tokens."""
    assert model.cached_prefix(TEXT[:60]) == 0
    found = list(model.stream_tokens(token_request(TEXT[:60], 8)))
    runtime.take_processed()
    text = [*TEXT[:60], *found, *OTHER[:3]]
    for length, expected in ((71, 67), (60, 59), (30, 29), (1, 0)):
        assert model.cached_prefix(text[:length]) == expected
    assert model.cached_prefix(OTHER[:10]) == 0
    list(model.stream_tokens(token_request(text, 1)))
    assert runtime.take_processed() == text[67:]


def test_a_different_first_token_matches_nothing(
    model: DeviceModel, runtime: RecordingRuntime
) -> None:
    """Even if all tokens after it are equal."""
    list(model.stream_tokens(token_request(TEXT[:60], 1)))
    runtime.take_processed()
    other = [TEXT[0] ^ 1, *TEXT[1:60]]
    list(model.stream_tokens(token_request(other, 1)))
    assert runtime.take_processed() == other


@pytest.mark.parametrize("order", [(20, 40, 30), (40, 20, 30), (30, 20, 40)])
def test_the_longest_match_wins(runtime: RecordingRuntime, order: tuple[int, ...]) -> None:
    """Whichever was used last."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    for shared in order:
        session = runtime.session()
        session.forward([*TEXT[:shared], *OTHER[shared : shared + 5]])
        prefixes.release(session)
    session = prefixes.acquire(TEXT[:60], 60)
    assert session.tokens == TEXT[:40]
    assert_continues(session, TEXT[40:60])


def test_a_branch_leaves_the_longer_text_cached(runtime: RecordingRuntime) -> None:
    """Both can be continued from their ends."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    store(prefixes, TEXT[:100])
    branch = [*TEXT[:20], *OTHER[:20]]
    store(prefixes, branch)
    for text, end in ((TEXT[:100], 100), (branch, 40)):
        longer = [*text, *OTHER[60:70]]
        session = prefixes.acquire(longer, 120)
        assert session.position == end
        assert_continues(session, longer[end:])
        prefixes.release(session)


def test_a_session_in_use_is_not_shared(runtime: RecordingRuntime) -> None:
    """A concurrent request with the same prefix gets a session of its own."""
    prefixes = PrefixCache(runtime, PREFIX_MEMORY)
    store(prefixes, TEXT[:50])
    one, other = prefixes.acquire(TEXT[:60], 60), prefixes.acquire(TEXT[:60], 60)
    assert one.cache is not other.cache
    assert (one.position, other.position) == (50, 0)
    assert_continues(one, OTHER[:10])
    assert_continues(other, TEXT[:60])
    prefixes.release(one)
    prefixes.release(other)
    assert cached(prefixes, [*TEXT[:50], *OTHER[:10]]) == 60
    assert cached(prefixes, TEXT[:60]) == 60


@pytest.mark.parametrize("how", ["closed", "cancelled", "failed"])
def test_an_interrupted_request_leaves_its_tokens_cached(
    model: DeviceModel, uncached: DeviceModel, runtime: RecordingRuntime, how: str
) -> None:
    """Up to the last complete step."""
    runtime.chunk = 16
    request, cancelled = token_request(TEXT[:60], 10, **SEEDED), threading.Event()

    def interrupt() -> None:
        if len(runtime.steps) == 2:
            cancelled.set()
        if len(runtime.steps) == 5 and how == "failed":  # after the first token: not tried again
            raise RuntimeFailedError("for once")

    runtime.before = interrupt
    tokens = model.stream_tokens(request, cancelled if how == "cancelled" else None)
    if how == "closed":
        next(tokens)
        tokens.close()
    elif how == "cancelled":
        assert list(tokens) == []
    else:
        with pytest.raises(RuntimeFailedError, match="for once"):
            list(tokens)
    runtime.before = lambda: None
    done = len(runtime.take_processed())
    assert done == {"closed": 60, "cancelled": 48, "failed": 61}[how]
    found = list(model.stream_tokens(request))
    assert found == list(uncached.stream_tokens(request))
    assert runtime.take_processed() == [*TEXT[min(done, 59) : 60], *found[:-1]]


def test_after_a_slide_the_window_is_cached(model: DeviceModel, uncached: DeviceModel) -> None:
    """The tokens of the current window, not those that were dropped."""
    sliding = replace(token_request(TEXT[:150], 80, **GREEDY), sliding_window=True)
    answer = list(model.stream_tokens(sliding))
    assert answer == list(uncached.stream_tokens(sliding))
    window = [*TEXT[:150], *answer][CONTEXT - CONTEXT // 2 :]
    for prompt in (window[:100], TEXT[:100], window[:60]):
        request = token_request(prompt, 20, **GREEDY)
        assert list(model.stream_tokens(request)) == list(uncached.stream_tokens(request))


# Threads.


def test_concurrent_requests_may_share_a_prefix(
    model: DeviceModel, uncached: DeviceModel, runtime: RecordingRuntime
) -> None:
    """Each gets the tokens it would get alone, round after round."""
    runtime.chunk = 16
    requests = [
        token_request([*TEXT[:60], *OTHER[n : n + n % 3]], 20, **SEEDED | {"seed": n})
        for n in range(6)
    ]
    expected = [list(uncached.stream_tokens(request)) for request in requests]
    together = threading.Barrier(len(requests))

    def generate(index: int) -> list[list[int]]:
        rounds = []
        for _ in range(4):
            together.wait(60)
            rounds.append(list(model.stream_tokens(requests[index])))
        return rounds

    with ThreadPoolExecutor(len(requests)) as pool:
        for found, alone in zip(pool.map(generate, range(len(requests))), expected, strict=True):
            assert found == [alone] * 4
    runtime.take_processed()
    list(model.stream_tokens(requests[0]))
    assert runtime.take_processed()[0] == TEXT[59]


def test_an_abandoned_stream_may_be_collected_at_any_time(
    model: DeviceModel, uncached: DeviceModel
) -> None:
    """Even on a thread that holds the lock of the prefix cache."""

    class Cycle:
        def __init__(self) -> None:
            self.itself = self
            self.tokens = model.stream_tokens(token_request(TEXT[:10], 50))
            next(self.tokens)

    def collect() -> None:
        gc.collect()

    model.prefix_cache.available = collect  # called with the lock held
    request = token_request(OTHER[:10], 5, **GREEDY)
    found: list[int] = []
    generating = threading.Thread(
        target=lambda: found.extend(model.stream_tokens(request)), daemon=True
    )
    gc.disable()
    try:
        Cycle()
        generating.start()
        generating.join(60)
    finally:
        gc.enable()
    assert not generating.is_alive()
    assert found == list(uncached.stream_tokens(request))
