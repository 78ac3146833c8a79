"""A device model: manifest, tokenizer and runtime."""

import logging
import os
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

from edgewise_edge.checks import Range, check_type
from edgewise_edge.decoding.generate import OnScore, generate_tokens
from edgewise_edge.decoding.load import load_tokenizer
from edgewise_edge.decoding.request import TokenRequest
from edgewise_edge.decoding.scoring import checked_ids, score_tokens
from edgewise_edge.decoding.token_score import TOP, TokenScore
from edgewise_edge.decoding.tokenizer import Tokenizer
from edgewise_edge.errors import (
    EdgeError,
    ModelError,
    ModelIncompatibleError,
    RequestError,
    RuntimeFailedError,
)
from edgewise_edge.runtime.load import load_runtime
from edgewise_edge.runtime.open import import_library
from edgewise_edge.runtime.prefix_cache import PREFIX_MEMORY, PrefixCache
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.catalog import find_folders
from edgewise_edge.store.manifest import MODEL_FILE, Manifest
from edgewise_edge.store.passed import PassedModel
from edgewise_edge.store.verified import verify_once
from edgewise_edge.store.weight_cache import WeightCache, default_folder

_log = logging.getLogger("edgewise_edge.installed")
_THREADS = Range(1, 1024, whole=True)
_PREFIX_MEMORY = Range(0, 2**63 - 1, whole=True, unit="bytes")  # 0: no prefix cache


def default_threads() -> int:
    """The CPUs this process may use, at most 4: decoding is bound by memory bandwidth."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cpus or 1, 4)


class DeviceModel:
    """A model on this device, ready to run."""

    def __init__(
        self,
        manifest: Manifest,
        tokenizer: Tokenizer,
        runtime: Runtime,
        prefix_memory: int = PREFIX_MEMORY,
    ) -> None:
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.runtime = runtime
        self.prefix_cache = PrefixCache(runtime, prefix_memory)

    @classmethod
    def load(
        cls,
        model: str | Path = "tales",
        *,
        threads: int | None = None,
        prefix_memory: int = PREFIX_MEMORY,
        weight_cache: Path | None = None,
    ) -> Self:
        """Verify and load an installed or bundled model by name, or the model in a folder.

        `prefix_memory` is the size of the prefix cache in bytes: a request that shares a prefix with
        an earlier one continues from there. `weight_cache` is the folder for prepared weights, in
        the user's cache folder by default (weight_cache.py). A model that is not bundled is tried in
        a child process before its first load on this machine (trial.py). Where an installed revision
        is damaged, the one before it or the bundled one is loaded. Raises ModelNotFoundError,
        ModelCorruptError, ModelIncompatibleError, RuntimeFailedError where memory is short, or
        RequestError for invalid `threads` or `prefix_memory`.
        """
        if threads is not None:
            threads = int(_THREADS.check("threads", threads, RequestError))
        prefix_memory = int(_PREFIX_MEMORY.check("prefix_memory", prefix_memory, RequestError))
        if weight_cache is not None:
            check_type(
                "weight_cache", weight_cache, str | Path, "the path of a folder", RequestError
            )
            weight_cache = Path(weight_cache)
        loaded = _load_best(model, threads or default_threads(), weight_cache)
        return cls(*loaded, prefix_memory)

    def stream_tokens(
        self,
        request: TokenRequest,
        cancelled: threading.Event | None = None,
        on_score: OnScore | None = None,
    ) -> Generator[int, None, None]:
        """The new tokens of `request`, until `cancelled` is set.

        Where the request asks for `logprobs`, `on_score` is called just before each token is yielded.
        Raises RequestError at once. The first `next()` raises CacheMemoryError before any work. If
        anything else fails before the first token, it tries again without the prefix cache's memory.
        """
        check_type("request", request, TokenRequest, "a TokenRequest", RequestError)
        shape = self.manifest.architecture
        request.check(shape.context_window, shape.vocabulary_size)
        return self._stream(request, cancelled, on_score)

    def score(
        self,
        token_ids: Sequence[int],
        *,
        top: int = 0,
        cancelled: threading.Event | None = None,
    ) -> tuple[TokenScore, ...]:
        """How likely the model finds each of `token_ids` after those before it.

        The first has no log-probability. Each score has the `top` likeliest tokens there (0 to 20).
        Once `cancelled` is set, it ends after a chunk of 64 tokens, with the scores so far. A model
        with the signature `score` takes little longer than for a prompt, an older one a decode step
        for each token. A generation that begins with these tokens need not process them again.
        Raises RequestError, ContextOverflowError for more tokens than the context window, and
        RuntimeFailedError.
        """
        shape = self.manifest.architecture
        ids = checked_ids(token_ids, shape.context_window, shape.vocabulary_size)
        top = int(TOP.check("top", top, RequestError))
        with _failures_as(RuntimeFailedError, "scoring failed"):
            try:
                return self._score(ids, top, cancelled)
            except (RuntimeFailedError, MemoryError):
                if not self.prefix_cache.clear():  # as in _stream()
                    raise
            return self._score(ids, top, cancelled)

    def _score(
        self, ids: tuple[int, ...], top: int, cancelled: threading.Event | None
    ) -> tuple[TokenScore, ...]:
        session = self.prefix_cache.acquire((), len(ids))  # an empty one: every token is needed
        try:
            return score_tokens(
                session, ids, top, chunk=self.runtime.score_chunk, cancelled=cancelled
            )
        finally:
            self.prefix_cache.release(session)

    def cached_prefix(self, token_ids: Sequence[int]) -> int:
        """How many of the first `token_ids` are in the prefix cache."""
        return self.prefix_cache.cached_prefix(token_ids)

    def _stream(
        self, request: TokenRequest, cancelled: threading.Event | None, on_score: OnScore | None
    ) -> Generator[int, None, None]:
        with _failures_as(RuntimeFailedError, "generating failed"):
            for may_retry in (True, False):
                tokens = self._generate(request, cancelled, on_score)
                try:
                    first = next(tokens, None)
                    break
                except (RuntimeFailedError, MemoryError):
                    # Perhaps for want of memory, which a runtime may not say. The next try is not
                    # in this block, as its error holds the memory of the session that failed.
                    if not (may_retry and self.prefix_cache.clear()):
                        raise
            with closing(tokens):
                if first is not None:
                    yield first
                    yield from tokens

    def _generate(
        self, request: TokenRequest, cancelled: threading.Event | None, on_score: OnScore | None
    ) -> Generator[int, None, None]:
        window = self.manifest.architecture.context_window
        length = min(window, request.position + request.max_tokens)
        session = self.prefix_cache.acquire(request.token_ids, length)
        try:
            yield from generate_tokens(
                session,
                request,
                chunk=self.runtime.chunk,
                context_window=window,
                cancelled=cancelled,
                on_score=on_score,
            )
        finally:
            self.prefix_cache.release(session)


@contextmanager
def _failures_as(kind: type[EdgeError], what: str) -> Iterator[None]:
    """Raise `kind` in place of whatever else is raised: the router then asks the other source."""
    try:
        yield
    except EdgeError:
        raise
    except Exception as error:
        raise kind(f"{what} ({type(error).__name__}: {error})") from error


def _load_best(
    model: str | Path, threads: int, weight_cache: Path | None
) -> tuple[Manifest, Tokenizer, Runtime]:
    """Where an installed revision is damaged, or was removed meanwhile, what is next best."""
    failures: dict[Path, ModelError] = {}
    while True:
        # Found again each time: another process may have switched to another revision.
        folders = [folder for folder in find_folders(model) if folder not in failures]
        if not folders:
            raise next(iter(failures.values()))
        if failures:
            _log.warning("%s is loaded instead: %s", folders[0], list(failures.values())[-1])
        try:
            with _failures_as(ModelIncompatibleError, f"{folders[0]} cannot be loaded"):
                return _load(folders[0], threads, weight_cache)
        except ModelError as error:
            failures[folders[0]] = error


def _load(
    folder: Path, threads: int, weight_cache: Path | None
) -> tuple[Manifest, Tokenizer, Runtime]:
    manifest = Manifest.read(folder)
    verify_once(manifest, folder, MODEL_FILE)
    import_library()  # first: that it fails says nothing about the model
    weights = (weight_cache or default_folder()).absolute()
    if not PassedModel(manifest, threads):
        from edgewise_edge.trial import require_passed  # takes 10 ms, which delays a cold start

        require_passed(folder, manifest, threads, weights)
    cache = WeightCache(weights, manifest.files[MODEL_FILE])
    with ThreadPoolExecutor(1) as pool:
        # LiteRT compiles the model without the GIL. What needs it came before: a thread that parses
        # a vocabulary gives it up too seldom.
        tokenizer = pool.submit(load_tokenizer, folder, manifest)
        runtime = load_runtime(folder, manifest.architecture, threads, cache)
        return manifest, tokenizer.result(), runtime
