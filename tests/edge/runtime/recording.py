"""A runtime that records its steps, and checks of the sessions that a prefix cache gives out."""

import weakref
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.runtime.kv_cache import KVCache
from edgewise_edge.runtime.prefix_cache import PrefixCache
from edgewise_edge.runtime.session import Runtime, Session
from tests.conftest import CONTEXT

Logits = NDArray[np.float32]
# No two of them have a token in common.
TEXT, OTHER, THIRD = (
    np.random.default_rng(4).integers(first, first + 80, CONTEXT).tolist() for first in (0, 80, 160)
)


class RecordingRuntime(Runtime):
    """A runtime that records the tokens of each step and the caches it made."""

    def __init__(self, runtime: Runtime, chunk: int) -> None:
        super().__init__(runtime.backend, runtime.architecture)
        self.chunk = chunk
        self.steps: list[list[int]] = []
        self.before: Callable[[], object] = lambda: None  # called before each step
        self.caches: list[weakref.ref[KVCache]] = []

    def run(self, cache: KVCache, tokens: Sequence[int], position: int) -> Logits:
        self.before()
        self.steps.append(list(tokens))
        return super().run(cache, tokens, position)

    def new_cache(self, tokens: int | None = None) -> KVCache:
        cache = super().new_cache(tokens)
        self.caches.append(weakref.ref(cache))
        return cache

    def take_processed(self) -> list[int]:
        """The tokens processed since the last call."""
        steps, self.steps = self.steps, []
        return [token for step in steps for token in step]


def logits_after(runtime: Runtime, tokens: list[int]) -> Logits:
    """The logits after `tokens` in a new session."""
    session = runtime.session()
    for start in range(0, len(tokens), 128):
        logits = session.forward(tokens[start : start + 128])
    return logits


def assert_continues(session: Session, new: list[int]) -> None:
    """Process `new`, all but the last three in one step; the logits are those of a new session."""
    text = [*session.tokens, *new]
    pieces = [new[:-3], new[-3:-2], new[-2:-1], new[-1:]] if len(new) > 3 else [[t] for t in new]
    for piece in pieces:
        found = session.forward(piece)
        expected = logits_after(session.runtime, text[: session.position])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert session.tokens == text


def store(prefixes: PrefixCache, tokens: list[int]) -> Session:
    """Process `tokens` in an acquired session and release it."""
    session = prefixes.acquire(tokens, len(tokens))
    assert_continues(session, tokens[session.position :])
    prefixes.release(session)
    return session


def cached(prefixes: PrefixCache, tokens: list[int]) -> int:
    """How many of the first `tokens` are cached, the last one included."""
    return prefixes.cached_prefix([*tokens, 0])
