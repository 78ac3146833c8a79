"""Texts that begin alike: read once, and nothing of it shows but the time it takes."""

import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_edge import DeviceModel, RequestError, RuntimeFailedError
from edgewise_edge.errors import CacheMemoryError
from edgewise_edge.runtime.kv_cache import Cache, row_bytes
from edgewise_edge.runtime.prefix_cache import PREFIX_MEMORY, Prefixes
from edgewise_edge.runtime.session import Runtime, Session
from tests.conftest import CONTEXT, token_request

Logits = NDArray[np.float32]
# No two of them have a token in common.
TEXT, OTHER, THIRD = (
    np.random.default_rng(4).integers(first, first + 80, CONTEXT).tolist() for first in (0, 80, 160)
)
GREEDY = {"temperature": 0}
SEEDED = {"temperature": 1.0, "top_k": 0, "seed": 5, "repetition_penalty": 1.3}


class Watched(Runtime):
    """A runtime that tells what it read, step by step."""

    def __init__(self, runtime: Runtime, chunk: int) -> None:
        super().__init__(runtime.backend, runtime.architecture)
        self.chunk = chunk
        self.steps: list[list[int]] = []
        self.before: Callable[[], object] = lambda: None  # called before each step

    def run(self, cache: Cache, tokens: Sequence[int], position: int) -> Logits:
        self.before()
        self.steps.append(list(tokens))
        return super().run(cache, tokens, position)

    def read(self) -> list[int]:
        """What was read since it was last asked."""
        steps, self.steps = self.steps, []
        return [token for step in steps for token in step]


@pytest.fixture
def runtime(exact_model: DeviceModel) -> Watched:
    """The tiny model's."""
    return Watched(exact_model.runtime, chunk=128)


@pytest.fixture
def model(exact_model: DeviceModel, runtime: Watched) -> DeviceModel:
    """The tiny model, which remembers nothing yet."""
    return DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime)


@pytest.fixture
def fresh(exact_model: DeviceModel) -> DeviceModel:
    """The tiny model, which remembers nothing ever."""
    return DeviceModel(exact_model.manifest, exact_model.tokenizer, exact_model.runtime, 0)


@pytest.fixture
def row(runtime: Watched) -> int:
    """Bytes of a token."""
    return row_bytes(runtime.architecture)


def logits_after(runtime: Runtime, tokens: list[int]) -> Logits:
    """What a session of its own says after them."""
    session = runtime.session()
    for start in range(0, len(tokens), 128):
        logits = session.read(tokens[start : start + 128])
    return logits


def assert_right(session: Session, new: list[int]) -> None:
    """The session reads `new` at once but for the last three, and says what a new one would."""
    text = [*session.tokens, *new]
    pieces = [new[:-3], new[-3:-2], new[-2:-1], new[-1:]] if len(new) > 3 else [[t] for t in new]
    for piece in pieces:
        found = session.read(piece)
        expected = logits_after(session._runtime, text[: session.position])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert session.tokens == text


def kept(prefixes: Prefixes, tokens: list[int]) -> None:
    """Let a session that has read `tokens`, one by one at its end, be remembered."""
    session = prefixes.session(tokens, len(tokens))
    assert_right(session, tokens[session.position :])
    prefixes.keep(session)


def remembered(prefixes: Prefixes, tokens: list[int]) -> int:
    """How many of `tokens` need not be read; nothing else is changed by asking."""
    sessions = list(prefixes._sessions)
    found = prefixes.session([*tokens, 0], 0).position
    prefixes._sessions = sessions
    return found


# The same tokens.

PAIRS = {
    "the same again": (TEXT[:40], TEXT[:40]),
    "a token more": (TEXT[:40], TEXT[:41]),
    "much more": (TEXT[:40], TEXT[:130]),
    "a token less": (TEXT[:40], TEXT[:39]),
    "much less": (TEXT[:100], TEXT[:20]),
    "another end": (TEXT[:50], [*TEXT[:45], *OTHER[:10]]),
    "another last token": (TEXT[:50], [*TEXT[:49], OTHER[0]]),
    "another middle": (TEXT[:100], [*TEXT[:50], *OTHER[50:100]]),
    "the first token alone": (TEXT[:50], [TEXT[0], *OTHER[:30]]),
    "nothing": (TEXT[:50], OTHER[:50]),
    "one token": (TEXT[:1], TEXT[:1]),
    "beyond a granule": (TEXT[:60], [*TEXT[:58], *OTHER[:10]]),
}


@pytest.mark.parametrize("sampling", [GREEDY, SEEDED], ids=["greedy", "seeded"])
@pytest.mark.parametrize(("first", "second"), PAIRS.values(), ids=PAIRS.keys())
def test_what_was_read_before_does_not_show(
    model: DeviceModel,
    fresh: DeviceModel,
    first: list[int],
    second: list[int],
    sampling: dict[str, float],
) -> None:
    """The tokens are those of a model that was asked nothing before, for either request."""
    for prompt in (first, second, first, second):
        wanted = token_request(prompt, 25, **sampling)
        assert list(model.stream_tokens(wanted)) == list(fresh.stream_tokens(wanted))


@pytest.mark.parametrize("shared", [1, 10, 24, 25, 26, 40, 49])
def test_logits_are_those_of_a_text_read_from_its_beginning(runtime: Watched, shared: int) -> None:
    """Wherever the second text leaves the first, which was longer."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    kept(prefixes, TEXT[:50])
    tokens = [*TEXT[:shared], *OTHER[shared : shared + 20]]
    session = prefixes.session(tokens, CONTEXT)
    assert session.position == shared
    assert_right(session, tokens[shared:])


def test_a_long_conversation_is_read_once(
    model: DeviceModel, fresh: DeviceModel, runtime: Watched
) -> None:
    """Each turn reads its own words, and the last token of the answer before."""
    text = TEXT[:5]
    expected: list[int] = []
    for turn in range(6):
        wanted = token_request(text, 12, seed=turn)
        answer = list(model.stream_tokens(wanted))
        assert answer == list(fresh.stream_tokens(wanted))
        expected += [*text[len(expected) :], *answer[:-1]]
        text = [*text, *answer, *OTHER[turn * 10 : turn * 10 + 10]]
    assert runtime.read() == expected


# What is read.


def test_only_what_is_new_is_read(model: DeviceModel, runtime: Watched) -> None:
    """Of a prompt that begins as an earlier one did."""
    list(model.stream_tokens(token_request(TEXT[:60], 1)))
    assert runtime.read() == TEXT[:60]
    list(model.stream_tokens(token_request([*TEXT[:60], *OTHER[:5]], 1)))
    assert runtime.read() == OTHER[:5]


@pytest.mark.parametrize("length", [60, 59, 30, 2])
def test_the_last_token_is_always_read(model: DeviceModel, runtime: Watched, length: int) -> None:
    """Of a prompt that is what was read before, or its beginning: for its logits."""
    list(model.stream_tokens(token_request(TEXT[:60], 8)))
    runtime.read()
    list(model.stream_tokens(token_request(TEXT[:length], 1)))
    assert runtime.read() == [TEXT[length - 1]]


def test_a_model_says_what_it_need_not_read(model: DeviceModel, runtime: Watched) -> None:
    """And does not touch it: the request that follows reads the rest."""
    assert model.remembered(TEXT[:60]) == 0
    found = list(model.stream_tokens(token_request(TEXT[:60], 8)))
    runtime.read()
    text = [*TEXT[:60], *found, *OTHER[:3]]
    for length, expected in ((71, 67), (60, 59), (30, 29), (1, 0)):
        assert model.remembered(text[:length]) == expected
    assert model.remembered(OTHER[:10]) == 0
    list(model.stream_tokens(token_request(text, 1)))
    assert runtime.read() == text[67:]


def test_a_text_that_begins_otherwise_is_read_whole(model: DeviceModel, runtime: Watched) -> None:
    """However much is the same from the second token on."""
    list(model.stream_tokens(token_request(TEXT[:60], 1)))
    runtime.read()
    other = [TEXT[0] ^ 1, *TEXT[1:60]]
    list(model.stream_tokens(token_request(other, 1)))
    assert runtime.read() == other


@pytest.mark.parametrize("order", [(20, 40, 30), (40, 20, 30), (30, 20, 40)])
def test_the_longest_match_wins(runtime: Watched, order: tuple[int, ...]) -> None:
    """Whichever was used last."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    for shared in order:
        session = runtime.session()
        session.read([*TEXT[:shared], *OTHER[shared : shared + 5]])
        prefixes.keep(session)
    session = prefixes.session(TEXT[:60], 60)
    assert session.tokens == TEXT[:40]
    assert_right(session, TEXT[40:60])


def test_a_text_that_branches_off_leaves_the_long_one_whole(runtime: Watched) -> None:
    """Both are gone on with, each from where it ended."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    kept(prefixes, TEXT[:100])
    branch = [*TEXT[:20], *OTHER[:20]]
    kept(prefixes, branch)
    for text, end in ((TEXT[:100], 100), (branch, 40)):
        longer = [*text, *OTHER[60:70]]
        session = prefixes.session(longer, 120)
        assert session.position == end
        assert_right(session, longer[end:])
        prefixes.keep(session)


def test_two_branches_at_once_are_two_texts(runtime: Watched) -> None:
    """The second does not get what the first is using."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    kept(prefixes, TEXT[:50])
    one, other = prefixes.session(TEXT[:60], 60), prefixes.session(TEXT[:60], 60)
    assert one.cache is not other.cache
    assert (one.position, other.position) == (50, 0)
    assert_right(one, OTHER[:10])
    assert_right(other, TEXT[:60])
    prefixes.keep(one)
    prefixes.keep(other)
    assert remembered(prefixes, [*TEXT[:50], *OTHER[:10]]) == 60
    assert remembered(prefixes, TEXT[:60]) == 60


@pytest.mark.parametrize("how", ["closed", "cancelled", "failed"])
def test_a_text_that_was_interrupted_is_gone_on_with(
    model: DeviceModel, fresh: DeviceModel, runtime: Watched, how: str
) -> None:
    """From the last step that was whole."""
    runtime.chunk = 16
    wanted, cancelled = token_request(TEXT[:60], 10, **SEEDED), threading.Event()

    def interrupt() -> None:
        if len(runtime.steps) == 2:
            cancelled.set()
            if how == "failed":
                raise RuntimeFailedError("for once")

    runtime.before = interrupt
    tokens = model.stream_tokens(wanted, cancelled if how == "cancelled" else None)
    if how == "closed":
        next(tokens)
        tokens.close()
    elif how == "cancelled":
        assert list(tokens) == []
    else:
        with pytest.raises(RuntimeFailedError, match="for once"):
            list(tokens)
    runtime.before = lambda: None
    done = len(runtime.read())
    assert done == {"closed": 60, "cancelled": 48, "failed": 32}[how]
    found = list(model.stream_tokens(wanted))
    assert found == list(fresh.stream_tokens(wanted))
    assert runtime.read() == [*TEXT[min(done, 59) : 60], *found[:-1]]


def test_a_text_that_slid_is_remembered_as_it_was_read(
    model: DeviceModel, fresh: DeviceModel
) -> None:
    """From where its window began anew; what went before is forgotten."""
    sliding = replace(token_request(TEXT[:150], 80, **GREEDY), sliding_window=True)
    answer = list(model.stream_tokens(sliding))
    assert answer == list(fresh.stream_tokens(sliding))
    window = [*TEXT[:150], *answer][CONTEXT - CONTEXT // 2 :]
    for prompt in (window[:100], TEXT[:100], window[:60]):
        wanted = token_request(prompt, 20, **GREEDY)
        assert list(model.stream_tokens(wanted)) == list(fresh.stream_tokens(wanted))


# What is kept.


def test_the_least_recently_used_goes_first(runtime: Watched, row: int) -> None:
    """Where the next one takes more than there is room for."""
    prefixes = Prefixes(runtime, 100 * row)
    one, two, three = TEXT[:40], OTHER[:40], THIRD[:40]
    kept(prefixes, one)
    kept(prefixes, two)
    assert prefixes.bytes == 80 * row
    kept(prefixes, [*one, 7])
    kept(prefixes, three)
    assert [remembered(prefixes, text) for text in (one, two, three)] == [40, 0, 40]
    assert prefixes.bytes == 81 * row


def test_being_copied_counts_as_use(runtime: Watched, row: int) -> None:
    """The text that others branch off is worth keeping."""
    prefixes = Prefixes(runtime, 120 * row)
    kept(prefixes, TEXT[:50])
    kept(prefixes, OTHER[:50])
    kept(prefixes, [*TEXT[:10], *OTHER[80:90]])
    kept(prefixes, THIRD[:10])
    assert remembered(prefixes, TEXT[:50]) == 50
    assert remembered(prefixes, OTHER[:50]) == 0


@pytest.mark.parametrize("limit", [1, 39, 40, 41, 79, 80, 119])
def test_never_more_than_the_limit_is_held(runtime: Watched, row: int, limit: int) -> None:
    """After any number of texts; and as many of them as there is room for."""
    prefixes = Prefixes(runtime, limit * row)
    for number in range(6):
        kept(prefixes, [number] * 40)
        assert prefixes.bytes == min(limit // 40, number + 1) * 40 * row


def test_the_text_in_use_counts_too(runtime: Watched, row: int) -> None:
    """Room for it is made when it begins, not when it has grown."""
    prefixes = Prefixes(runtime, 100 * row)
    kept(prefixes, TEXT[:40])
    kept(prefixes, OTHER[:40])
    prefixes.session(THIRD[:5], 30)
    assert prefixes.bytes == 40 * row
    assert remembered(prefixes, OTHER[:40]) == 40


def test_without_a_limit_of_its_own_nothing_is_kept(
    fresh: DeviceModel, runtime: Watched, row: int
) -> None:
    """Neither tokens nor memory."""
    prefixes = Prefixes(runtime, 0)
    session = prefixes.session(TEXT[:10], 10)
    session.read(TEXT[:10])
    cache = weakref.ref(session.cache)
    prefixes.keep(session)
    del session
    gc.collect()
    assert cache() is None
    assert prefixes.bytes == 0
    assert remembered(prefixes, TEXT[:10]) == 0


@pytest.mark.parametrize("limit", [0, PREFIX_MEMORY])
def test_what_has_read_nothing_is_not_kept(
    exact_model: DeviceModel, runtime: Watched, limit: int
) -> None:
    """Requests cancelled before they began do not pile up."""
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, runtime, limit)
    cancelled = threading.Event()
    cancelled.set()
    for _ in range(3):
        assert list(model.stream_tokens(token_request(TEXT[:10], 5), cancelled)) == []
    assert model._prefixes._sessions == []


def test_memory_below_nothing_is_refused(exact_model: DeviceModel) -> None:
    """Before anything is loaded."""
    with pytest.raises(RequestError, match="prefix_memory is -1"):
        DeviceModel.load("tales", prefix_memory=-1)


@pytest.mark.parametrize("length", [1, 10, 35])
def test_memory_that_was_used_before_shows_no_trace(
    runtime: Watched, row: int, length: int
) -> None:
    """A text forgotten for a new one leaves it its memory, and nothing it wrote there."""
    prefixes = Prefixes(runtime, 50 * row)
    kept(prefixes, TEXT[:40])
    session = prefixes.session(OTHER[:length], 50)
    assert prefixes.bytes == 0
    assert session.position == 0
    assert_right(session, OTHER[: length + 5])


# Threads.


def test_requests_that_begin_alike_may_run_at_once(
    model: DeviceModel, fresh: DeviceModel, runtime: Watched
) -> None:
    """Each gets the tokens it would get alone, round after round."""
    runtime.chunk = 16
    requests = [
        token_request([*TEXT[:60], *OTHER[n : n + n % 3]], 20, **SEEDED | {"seed": n})
        for n in range(6)
    ]
    expected = [list(fresh.stream_tokens(wanted)) for wanted in requests]
    together = threading.Barrier(len(requests))

    def write(index: int) -> list[list[int]]:
        rounds = []
        for _ in range(4):
            together.wait(60)
            rounds.append(list(model.stream_tokens(requests[index])))
        return rounds

    with ThreadPoolExecutor(len(requests)) as pool:
        for found, alone in zip(pool.map(write, range(len(requests))), expected, strict=True):
            assert found == [alone] * 4
    runtime.read()
    list(model.stream_tokens(requests[0]))
    assert runtime.read()[0] == TEXT[59]


def test_an_abandoned_text_may_be_collected_at_any_time(
    model: DeviceModel, fresh: DeviceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while another one begins, on the very thread that begins it."""

    class Circle:
        def __init__(self) -> None:
            self.itself = self
            self.tokens = model.stream_tokens(token_request(TEXT[:10], 50))
            next(self.tokens)

    def available_memory() -> None:
        gc.collect()

    monkeypatch.setattr("edgewise_edge.runtime.prefix_cache.available_memory", available_memory)
    wanted = token_request(OTHER[:10], 5, **GREEDY)
    found: list[int] = []
    writing = threading.Thread(
        target=lambda: found.extend(model.stream_tokens(wanted)), daemon=True
    )
    gc.disable()
    try:
        Circle()
        writing.start()
        writing.join(5)
    finally:
        gc.enable()
    assert not writing.is_alive()
    assert found == list(fresh.stream_tokens(wanted))


# Memory.


def available(monkeypatch: pytest.MonkeyPatch, memory: Callable[[], int | None]) -> None:
    """Let the system have so many bytes left."""
    monkeypatch.setattr("edgewise_edge.runtime.prefix_cache.available_memory", memory)


def test_short_memory_is_said_before_any_is_taken(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed and what there is."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    available(monkeypatch, lambda: 100 * row - 1)
    caches: list[Any] = []
    monkeypatch.setattr("edgewise_edge.runtime.prefix_cache.Cache", caches.append)
    with pytest.raises(CacheMemoryError, match="shorten the prompt") as error:
        prefixes.session(TEXT[:60], 100)
    assert (error.value.wanted, error.value.available) == (100 * row, 100 * row - 1)
    assert isinstance(error.value, MemoryError)
    assert caches == []


@pytest.mark.parametrize("memory", [100, None])
def test_memory_that_is_enough_or_unknown_is_no_constraint(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch, memory: int | None
) -> None:
    """To the last byte."""
    available(monkeypatch, lambda: memory and memory * row)
    assert Prefixes(runtime, PREFIX_MEMORY).session(TEXT[:60], 100).position == 0


def test_a_request_that_memory_is_short_for_reads_nothing(
    model: DeviceModel,
    fresh: DeviceModel,
    runtime: Watched,
    row: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A shorter one may still be answered, and the same once there is more."""
    available(monkeypatch, lambda: 70 * row)
    with pytest.raises(CacheMemoryError):
        list(model.stream_tokens(token_request(TEXT[:60], 11)))
    assert runtime.read() == []
    shorter = token_request(TEXT[:60], 10, **SEEDED)
    assert list(model.stream_tokens(shorter)) == list(
        DeviceModel(fresh.manifest, fresh.tokenizer, fresh.runtime).stream_tokens(shorter)
    )
    available(monkeypatch, lambda: None)
    assert len(list(model.stream_tokens(token_request(TEXT[:60], 11)))) == 11


def test_more_than_the_window_is_never_asked_for(
    model: DeviceModel, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many tokens are wanted."""
    available(monkeypatch, lambda: CONTEXT * row)
    assert len(list(model.stream_tokens(token_request(TEXT[:60], 100_000)))) >= CONTEXT - 60


def test_what_a_remembered_text_holds_need_not_be_there_again(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the rest of its request counts."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    kept(prefixes, TEXT[:60])
    available(monkeypatch, lambda: 40 * row)
    assert prefixes.session(TEXT[:80], 100).position == 60
    kept_again = Prefixes(runtime, PREFIX_MEMORY)
    available(monkeypatch, lambda: None)
    kept(kept_again, TEXT[:60])
    available(monkeypatch, lambda: 40 * row)
    with pytest.raises(CacheMemoryError):
        kept_again.session(TEXT[:80], 101)


class System:
    """One with so many bytes, of which whatever is alive takes its part."""

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self.taken: list[tuple[weakref.ref[Any], int]] = []

    def takes(self, what: object, size: int) -> None:
        self.taken.append((weakref.ref(what), size))

    def available(self) -> int:
        return self.memory - sum(size for what, size in self.taken if what() is not None)


def test_texts_are_forgotten_before_memory_is_short(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as it takes, the least recently used first."""
    prefixes, system = Prefixes(runtime, PREFIX_MEMORY), System(160 * row)
    texts = [TEXT[:50], OTHER[:50], THIRD[:50]]
    for text in texts:
        kept(prefixes, text)
        system.takes(prefixes._sessions[-1], 50 * row)
    available(monkeypatch, system.available)
    prefixes.session(THIRD[:5], 110)
    assert prefixes.bytes == 50 * row
    assert [remembered(prefixes, text) for text in texts] == [0, 0, 50]


def test_nothing_is_forgotten_where_memory_is_enough(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered may stay."""
    prefixes = Prefixes(runtime, PREFIX_MEMORY)
    kept(prefixes, TEXT[:50])
    available(monkeypatch, lambda: 110 * row)
    prefixes.session(THIRD[:5], 110)
    assert prefixes.bytes == 50 * row


def test_memory_of_a_forgotten_text_serves_the_next(
    runtime: Watched, row: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is given back, or used anew: either way the request can be answered."""
    prefixes, system = Prefixes(runtime, PREFIX_MEMORY), System(150 * row)
    kept(prefixes, TEXT[:100])
    system.takes(prefixes._sessions[-1].cache, 100 * row)
    available(monkeypatch, system.available)
    session = prefixes.session(OTHER[:30], 140)
    assert prefixes.bytes == 0
    assert_right(session, OTHER[:30])


def test_short_memory_after_a_cancelled_request_is_still_short_memory(
    model: DeviceModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to forget then."""
    cancelled = threading.Event()
    cancelled.set()
    list(model.stream_tokens(token_request(TEXT[:10], 5), cancelled))
    available(monkeypatch, lambda: 0)
    with pytest.raises(CacheMemoryError):
        list(model.stream_tokens(token_request(TEXT[:10], 5)))
