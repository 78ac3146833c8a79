"""Running a device model step by step (edgewise_cloud/convert/graph.py defines a step)."""

import errno
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.errors import (
    EdgeError,
    ModelIncompatibleError,
    RuntimeFailedError,
)
from edgewise_edge.runtime.arrays import ALIGNMENT, aligned
from edgewise_edge.runtime.backend import Backend
from edgewise_edge.runtime.kv_cache import KVCache, padded
from edgewise_edge.runtime.open import open_model, require_tflite
from edgewise_edge.runtime.signatures import (
    DECODE,
    MASKED,
    PREFILL,
    check_signatures,
    new_row_names,
)
from edgewise_edge.runtime.stderr import held_native_logs, report_crashes, silence_native_exit
from edgewise_edge.runtime.step import BoundStep, StepBuffers
from edgewise_edge.store.manifest import Architecture

# Prompt tokens per prefill step. Larger chunks read the weights less often, but need more memory
# for activations, and a cancellation waits for the current chunk.
PREFILL_CHUNK = 256


class Runtime:
    """A loaded device model. Steps run one at a time; sessions may belong to many threads."""

    def __init__(self, backend: Backend, architecture: Architecture) -> None:
        check_signatures(backend.signatures, architecture)
        self.architecture = architecture
        self.backend = backend
        self.chunk = PREFILL_CHUNK
        # Whether prefill writes its rows straight into the cache, which needs aligned rows.
        self.writes_in_place = architecture.width * np.dtype(np.float32).itemsize % ALIGNMENT == 0
        self._lock = threading.Lock()
        self._decode_buffers = StepBuffers.allocate(architecture, 1)
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
        return KVCache(self.architecture, tokens)

    def run(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Process `tokens` at `position` and add their rows to `cache`.

        Returns the logits (vocabulary,) of the next token. Raises RuntimeFailedError.
        """
        step = self._decode if len(tokens) == 1 else self._prefill
        with self._lock:
            try:
                return step(cache, tokens, position)
            except Exception as error:
                raise RuntimeFailedError(
                    f"{self.backend.name} failed at position {position}: "
                    f"{str(error) or type(error).__name__}"
                ) from error

    def _decode(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        rows = padded(position)
        bound = cache.decode_step
        if bound is None or bound.mask.shape[1] != 1 + rows:
            bound = cache.decode_step = self._bind(DECODE, self._decode_buffers, cache, rows)
        bound.show(position)
        return bound.run(tokens, position)

    def _prefill(self, cache: KVCache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        length = len(tokens)
        buffers = self._prefill_buffers.first(length)
        if self.writes_in_place:
            buffers = buffers.writing_to(new_row_names(self.architecture), cache.rows, position)
        # An empty cache still has one row as input: it is masked, so the step may write to it.
        bound = self._bind(PREFILL, buffers, cache, max(1, position))
        bound.mask[:, :length] = np.triu(np.full((length, length), MASKED, np.float32), k=1)
        bound.mask[:, length : length + position] = 0
        return bound.run(tokens, position)

    def _bind(self, signature: str, buffers: StepBuffers, cache: KVCache, rows: int) -> BoundStep:
        """`signature` on the first `rows` rows of `cache`, all masked."""
        mask = aligned((buffers.length, buffers.length + rows), np.float32)
        mask[:] = MASKED
        inputs = buffers.inputs | {"mask": mask} | cache.inputs(rows)
        step = self.backend.bind(signature, inputs, buffers.outputs)
        return BoundStep(buffers, cache.rows, mask, step)


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

        Raises RuntimeFailedError, and then the session is unchanged.
        """
        logits = self.runtime.run(self.cache, tokens, self.position)
        self.tokens += tokens
        return logits
