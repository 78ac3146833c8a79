"""A device model: its manifest, its vocabulary and the runtime that runs it."""

import os
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Self

from edgewise_edge.decoding.generate import TokenRequest, generate_tokens
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer
from edgewise_edge.errors import ModelIncompatibleError, RequestError
from edgewise_edge.runtime.open import import_library
from edgewise_edge.runtime.prefix_cache import PREFIX_MEMORY, Prefixes
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.runtime.weight_cache import WeightCache, default_folder
from edgewise_edge.store.catalog import find_model
from edgewise_edge.store.manifest import MODEL_FILE, Manifest


def default_threads() -> int:
    """The CPUs this process may use, at most 4: a token is bound by memory, not by arithmetic."""
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
        self._prefixes = Prefixes(runtime, prefix_memory)

    @classmethod
    def load(
        cls,
        model: str | Path = "tales",
        *,
        threads: int | None = None,
        prefix_memory: int = PREFIX_MEMORY,
        weight_cache: Path | None = None,
    ) -> Self:
        """Check and load a bundled model by name, or the one in a folder.

        `prefix_memory` is how many bytes may be spent to remember what was read: a request that
        begins like an earlier one then goes on from there. `weight_cache` is the folder that keeps
        prepared weights, the user's cache folder by default (weight_cache.py). Raises
        ModelNotFoundError, ModelCorruptError, ModelIncompatibleError or, for threads or a
        `prefix_memory` that mean nothing, RequestError.
        """
        if threads is not None and threads < 1:
            raise RequestError(f"threads is {threads}; it must be 1 or more")
        if prefix_memory < 0:
            raise RequestError(f"prefix_memory is {prefix_memory}; it must be 0 (none) or more")
        folder = find_model(model)
        manifest = Manifest.read(folder)
        with ThreadPoolExecutor(1) as beside:
            # Hashing leaves the interpreter to others.
            verified = beside.submit(manifest.verify, folder, [MODEL_FILE])
            tokenizer = load_tokenizer(folder, manifest)
            import_library()
            verified.result()
        cache = WeightCache(weight_cache or default_folder(), manifest.files[MODEL_FILE])
        runtime = _load(folder, manifest, threads or default_threads(), cache)
        return cls(manifest, tokenizer, runtime, prefix_memory)

    def stream_tokens(
        self, request: TokenRequest, cancelled: threading.Event | None = None
    ) -> Generator[int, None, None]:
        """The new tokens of `request`, until `cancelled`.

        Raises RequestError at once, and CacheMemoryError with the first token, before any work.
        """
        shape = self.manifest.architecture
        request.check(shape.context_window, shape.vocabulary_size)
        return self._stream(request, cancelled)

    def remembered(self, token_ids: Sequence[int]) -> int:
        """How many of the first of these tokens need not be read again."""
        return self._prefixes.shared(token_ids)

    def _stream(
        self, request: TokenRequest, cancelled: threading.Event | None
    ) -> Generator[int, None, None]:
        window = self.manifest.architecture.context_window
        room = min(window, request.position + request.max_tokens)
        session = self._prefixes.session(request.token_ids, room)
        try:
            yield from generate_tokens(
                session,
                request,
                chunk=self.runtime.chunk,
                context_window=window,
                cancelled=cancelled,
            )
        finally:
            self._prefixes.keep(session)


def _load(folder: Path, manifest: Manifest, threads: int, cache: WeightCache) -> Runtime:
    """Load with prepared weights where there are, and leave them for the next time if not."""
    load = partial(Runtime.load, folder / MODEL_FILE, manifest.architecture, threads)
    if cache.whole():
        with suppress(ModelIncompatibleError):
            return load(cache.path)
    with suppress(ModelIncompatibleError), cache.being_made() as path:
        return load(path)
    return load(None)


def load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The checked vocabulary of a model folder; cheap, without the model itself."""
    manifest.verify(folder, TOKENIZER_FILES)
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer.fingerprint != manifest.vocabulary:
        raise ModelIncompatibleError(
            f"{folder}: the vocabulary's fingerprint is not the manifest's; convert the model again"
        )
    return tokenizer
