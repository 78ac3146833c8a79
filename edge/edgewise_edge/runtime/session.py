"""Running a device model step by step (edgewise_cloud/convert/graph.py defines a step)."""

import errno
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.decoding.logprobs import token_score, token_scores
from edgewise_edge.decoding.token_score import TokenScore
from edgewise_edge.errors import (
    EdgeError,
    ModelIncompatibleError,
    RuntimeFailedError,
)
from edgewise_edge.runtime.attention import attention
from edgewise_edge.runtime.backend import Backend
from edgewise_edge.runtime.kv_cache import KVCache, bytes_per_token
from edgewise_edge.runtime.open import open_model, require_tflite
from edgewise_edge.runtime.signatures import PREFILL, SCORE, check_signatures
from edgewise_edge.runtime.stderr import held_native_logs, report_crashes, silence_native_exit
from edgewise_edge.runtime.step import StepBuffers
from edgewise_edge.store.manifest import Architecture

# Prompt tokens per prefill step. Larger chunks read the weights less often, but need more memory
# for activations, and a cancellation waits for the current chunk.
PREFILL_CHUNK = 256
# Tokens per score step, whose logits (of each token, for the whole vocabulary) stay in the library:
# 13 MB for 64 tokens of GPT-2.
SCORE_CHUNK = 64


_Result = TypeVar("_Result")


class Runtime:
    """A loaded device model. Steps run one at a time; sessions may belong to many threads."""

    def __init__(self, backend: Backend, architecture: Architecture) -> None:
        check_signatures(backend.signatures, architecture)
        self.architecture = architecture
        self.backend = backend
        self.chunk = PREFILL_CHUNK
        # A model from an older converter has no signature for it: its tokens are scored one by one.
        self.score_chunk = SCORE_CHUNK if SCORE in backend.signatures else 1
        self.attention = attention(backend, architecture)
        self._lock = threading.Lock()
        self._prefill_buffers = StepBuffers.allocate(architecture, PREFILL_CHUNK)

    @classmethod
    def load(
        cls,
        path: Path,
        architecture: Architecture,
        threads: int,
        weight_cache: Path | None = None,
    ) -> Self:
        """Map the `.tflite` at `path` into memory and prepare it for `threads` CPU threads.

        `weight_cache` is open_model's. Raises ModelCorruptError, ModelIncompatibleError, or
        RuntimeFailedError where memory is short.
        """
        report_crashes()
        require_tflite(path)
        log: list[str] = []
        try:
            with held_native_logs() as log:
                runtime = cls(open_model(path, threads, weight_cache), architecture)
                runtime.session().forward([0])  # the library finishes preparing in its first step
        except EdgeError:
            raise
        except Exception as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
                raise RuntimeFailedError(f"there is not enough memory to load {path}") from error
            reason = " ".join([str(error) or type(error).__name__, *log[-1:]])
            raise ModelIncompatibleError(f"{path} cannot be loaded: {reason}") from error
        finally:
            silence_native_exit()
        return runtime

    def session(self) -> "Session":
        """An empty session."""
        return Session(self, self.new_cache(), [])

    def new_cache(self, tokens: int | None = None) -> KVCache:
        """An empty cache for so many tokens. Raises OSError where the system gives no memory."""
        return KVCache(self.architecture, tokens, self.attention.cache_type)

    @property
    def bytes_per_token(self) -> int:
        """Bytes that a cache holds for each token."""
        return bytes_per_token(self.architecture, self.attention.cache_type)

    def run(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Process `tokens` at `position` and add their rows to `cache`.

        Returns the logits (vocabulary,) of the next token, which the next step on this cache
        overwrites. Raises RuntimeFailedError.
        """
        step = self._decode if len(tokens) == 1 else self._prefill
        return self._alone(step, cache, tokens, position)

    def score(
        self, cache: KVCache, tokens: Sequence[int], next_tokens: Sequence[int], position: int
    ) -> dict[str, NDArray[Any]]:
        """The same, with the model's signature for scores, which it must have.

        Returns its `logprobs`, `top_logprobs` and `top_ids` (edgewise_cloud/convert/graph.py).
        """
        return self._alone(self._score, cache, tokens, position, next_tokens)

    def _alone(
        self, step: Callable[..., _Result], cache: KVCache, tokens: Sequence[int], *more: Any
    ) -> _Result:
        with self._lock:
            try:
                return step(cache, tokens, *more)
            except Exception as error:
                raise RuntimeFailedError(
                    f"{self.backend.name} failed at position {more[0]}: "
                    f"{str(error) or type(error).__name__}"
                ) from error

    def _decode(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        bound = self.attention.decode(cache, position)
        cache.map_ahead(position)
        bound.run(tokens, position)
        return cache.logits

    def _prefill(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        buffers = self._prefill_buffers.last_of(len(tokens))
        bound = self.attention.chunk(PREFILL, buffers, cache, position)
        bound.run(tokens, position)
        return cache.logits

    def _score(
        self, cache: KVCache, tokens: Sequence[int], position: int, next_tokens: Sequence[int]
    ) -> dict[str, NDArray[Any]]:
        vocabulary_size = self.architecture.vocabulary_size
        buffers = self._prefill_buffers.scoring(next_tokens, vocabulary_size)
        self.attention.chunk(SCORE, buffers, cache, position).run(tokens, position)
        return buffers.outputs


class Session:
    """One sequence: the tokens processed so far, and the cache with their keys and values."""

    def __init__(self, runtime: Runtime, cache: KVCache, tokens: list[int]) -> None:
        self.runtime = runtime
        self.cache = cache
        self.tokens = tokens

    @property
    def position(self) -> int:
        """Where the next token goes."""
        return len(self.tokens)

    def restart(self) -> None:
        """Drop all tokens."""
        self.cache.wrote(self.position)
        self.tokens = []

    def forward(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Process 1 to Runtime.chunk more tokens; the logits (vocabulary,) of the next one.

        They lie where the next call writes its own. Raises RuntimeFailedError, and then the session
        is unchanged.
        """
        logits = self.runtime.run(self.cache, tokens, self.position)
        self.tokens += tokens
        return logits

    def score(
        self, tokens: Sequence[int], next_tokens: Sequence[int], top: int
    ) -> list[TokenScore]:
        """Process 1 to Runtime.score_chunk more tokens; the scores of those that follow each.

        `top` is at most MAX_TOP. Raises as forward().
        """
        if self.runtime.score_chunk == 1:
            return [token_score(self.forward(tokens), next_tokens[0], top)]
        found = self.runtime.score(self.cache, tokens, next_tokens, self.position)
        self.tokens += tokens
        return token_scores(
            next_tokens,
            found["logprobs"],
            found["top_ids"][:, :top],
            found["top_logprobs"][:, :top],
        )
