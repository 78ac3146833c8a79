"""A device model: its manifest, its vocabulary and the runtime that runs it."""

import os
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Self

from edgewise_edge.catalog import find_model
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.generation import TokenRequest, generate_tokens
from edgewise_edge.manifest import MODEL_FILE, Manifest
from edgewise_edge.runtime import Runtime
from edgewise_edge.tokenizer import TOKENIZER_FILES, Tokenizer


def default_threads() -> int:
    """The CPUs this process may use, at most 4: a token is bound by memory, not by arithmetic."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cpus or 1, 4)


class DeviceModel:
    """A model on this device, ready to run."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer, runtime: Runtime) -> None:
        self.manifest = manifest
        self.tokenizer = tokenizer
        self.runtime = runtime

    @classmethod
    def load(cls, model: str | Path = "tales", *, threads: int | None = None) -> Self:
        """Check and load a bundled model by name, or the one in a folder.

        Raises ModelNotFoundError, ModelCorruptError or ModelIncompatibleError.
        """
        folder = find_model(model)
        manifest = Manifest.read(folder)
        tokenizer = load_tokenizer(folder, manifest)
        manifest.verify(folder, [MODEL_FILE])
        runtime = Runtime.load(
            folder / MODEL_FILE, manifest.architecture, threads or default_threads()
        )
        return cls(manifest, tokenizer, runtime)

    def stream_tokens(
        self, request: TokenRequest, cancelled: threading.Event | None = None
    ) -> Generator[int, None, None]:
        """The new tokens of `request`, until `cancelled`; raises RequestError before any work."""
        shape = self.manifest.architecture
        request.check(shape.context_window, shape.vocabulary_size)
        return generate_tokens(self.runtime.session(), request, self.runtime.chunk, cancelled)


def load_tokenizer(folder: Path, manifest: Manifest) -> Tokenizer:
    """The checked vocabulary of a model folder; cheap, without the model itself."""
    manifest.verify(folder, TOKENIZER_FILES)
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer.fingerprint != manifest.vocabulary:
        raise ModelIncompatibleError(
            f"{folder}: the vocabulary's fingerprint is not the manifest's; convert the model again"
        )
    return tokenizer
