"""Running a device model's steps.

The caches live in NumPy memory that the model reads; each step returns only the rows it adds
(edgewise_cloud/graph.py), and they are written behind the rows already there.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.backend import Backend, Ends, open_model
from edgewise_edge.errors import ModelIncompatibleError, RuntimeFailedError
from edgewise_edge.manifest import Architecture
from edgewise_edge.quiet import captured_stderr, silence_native_exit
from edgewise_edge.signatures import parse_name

_FLATBUFFER_IDENTIFIER = slice(4, 8)
_ALIGNMENT = 64  # bytes; LiteRT copies what is aligned less


def _aligned(size: int, dtype: type[np.generic]) -> NDArray[Any]:
    """`size` zeros at an address LiteRT can use without a copy."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros(size * item + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * item].view(dtype)


@dataclass(frozen=True, slots=True)
class _Signature:
    """One step, with the memory for what goes in and comes out besides the caches."""

    name: str
    length: int  # tokens a step
    bucket: int  # rows of cache it reads
    tokens: NDArray[np.int32]
    position: NDArray[np.int32]
    rows: NDArray[np.float32]  # (layer, key | value, head, token, head size)
    logits: NDArray[np.float32]  # empty for prefill
    inputs: dict[str, Any]  # handles, but for the caches
    outputs: dict[str, Any]


class Runtime:
    """A loaded device model. Its steps run one at a time; sessions may come from many threads."""

    def __init__(self, backend: Backend, architecture: Architecture) -> None:
        self.architecture = architecture
        self.backend = backend
        self._lock = threading.Lock()
        signatures = [
            self._signature(name, ends, *parsed)
            for name, ends in backend.signatures.items()
            if (parsed := parse_name(name))
        ]
        self._decode = {s.bucket: s for s in signatures if s.length == 1}
        self._prefill = {s.bucket: s for s in signatures if s.length > 1}
        self.buckets = sorted(self._decode)
        if not self.buckets or self.buckets != sorted(self._prefill):
            raise ModelIncompatibleError(
                "the model needs a prefill and a decode signature for each cache size; it has "
                f"{sorted(backend.signatures)}; convert it again"
            )
        if self.buckets[-1] < architecture.context_window:
            raise ModelIncompatibleError(
                f"the model's largest cache has {self.buckets[-1]} rows, less than its context "
                f"window of {architecture.context_window} tokens; convert it again"
            )

    @classmethod
    def load(cls, path: Path, architecture: Architecture, threads: int) -> Self:
        """Map the `.tflite` at `path` into memory and prepare it for `threads` CPU threads."""
        with path.open("rb") as file:
            if file.read(8)[_FLATBUFFER_IDENTIFIER] != b"TFL3":
                raise ModelIncompatibleError(f"{path} is not a TFLite model")
        try:
            with captured_stderr() as log:
                runtime = cls(open_model(path, threads), architecture)
                runtime.session().decode(0)  # the library's last preparations, and a first proof
        except (RuntimeError, ValueError) as error:
            reason = " ".join([str(error), *log[-1:]])
            raise ModelIncompatibleError(f"{path} cannot be loaded: {reason}") from error
        finally:
            silence_native_exit()
        return runtime

    def session(self) -> "Session":
        """An empty session."""
        return Session(self)

    def run_step(self, cache: "Cache", tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Run `tokens` at `position`, add their rows to `cache`, return a copy of the logits."""
        signature = (self._decode if len(tokens) == 1 else self._prefill)[cache.bucket]
        used = len(tokens)
        with self._lock:
            signature.tokens[:used] = tokens
            signature.tokens[used:] = 0
            signature.position[0] = position
            try:
                self.backend.run(
                    signature.name, signature.inputs | cache.handles, signature.outputs
                )
            except (RuntimeError, ValueError) as error:
                raise RuntimeFailedError(
                    f"{self.backend.name} failed at position {position}: {error}"
                ) from error
            cache.rows[..., position : position + used, :] = signature.rows[..., :used, :]
            return signature.logits.copy()

    @property
    def chunk(self) -> int:
        """Prompt tokens a prefill step takes."""
        return self._prefill[self.buckets[0]].length

    def _signature(self, name: str, ends: Ends, length: int, bucket: int) -> _Signature:
        shape = self.architecture
        rows_shape = (shape.layers, 2, shape.heads, length, shape.head_size)
        inputs = {"tokens": _aligned(length, np.int32), "position": _aligned(1, np.int32)}
        outputs = {"rows": _aligned(int(np.prod(rows_shape)), np.float32)}
        if length == 1:
            outputs["logits"] = _aligned(shape.vocabulary_size, np.float32)
        layer = shape.heads * bucket * shape.head_size
        caches = dict.fromkeys(Cache.names(shape), layer)
        # LiteRT writes past the end of memory that is too small: compare before sharing any.
        _require(name, ends.inputs, {end: array.size for end, array in inputs.items()} | caches)
        _require(name, ends.outputs, {end: array.size for end, array in outputs.items()})
        return _Signature(
            name=name,
            length=length,
            bucket=bucket,
            tokens=inputs["tokens"],
            position=inputs["position"],
            rows=outputs["rows"].reshape(rows_shape),
            logits=outputs.get("logits", np.empty(0, np.float32)),
            inputs={end: self.backend.share(array) for end, array in inputs.items()},
            outputs={end: self.backend.share(array) for end, array in outputs.items()},
        )


def _require(signature: str, found: dict[str, int], expected: dict[str, int]) -> None:
    """Raise ModelIncompatibleError unless the ends have the names and sizes of the manifest."""
    if found.keys() != expected.keys():
        raise ModelIncompatibleError(
            f"{signature} has the ends {sorted(found)}; expected {sorted(expected)}; convert the "
            "model again"
        )
    for end, size in found.items():
        if size != expected[end]:
            raise ModelIncompatibleError(
                f"{signature} has {end} of {size} numbers where its manifest means "
                f"{expected[end]}; convert the model again"
            )


class Cache:
    """Keys and values of up to `bucket` tokens, in memory the model reads."""

    def __init__(self, backend: Backend, shape: Architecture, bucket: int) -> None:
        self.bucket = bucket
        layer = shape.heads * bucket * shape.head_size
        memory = _aligned(shape.layers * 2 * layer, np.float32)
        self.rows = memory.reshape(shape.layers, 2, shape.heads, bucket, shape.head_size)
        self.handles = {
            name: backend.share(part)
            for name, part in zip(self.names(shape), memory.reshape(-1, layer), strict=True)
        }

    @staticmethod
    def names(shape: Architecture) -> list[str]:
        """The model's cache inputs, in the order of `rows`."""
        return [f"{kind}_{layer}" for layer in range(shape.layers) for kind in ("key", "value")]


class Session:
    """One text being read and written: its cache, which grows from bucket to bucket."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._cache = Cache(runtime.backend, runtime.architecture, runtime.buckets[0])
        self.position = 0

    def prefill(self, tokens: Sequence[int]) -> None:
        """Read one chunk of at most `runtime.chunk` tokens."""
        self._step(tokens)

    def decode(self, token: int) -> NDArray[np.float32]:
        """Read one token; the logits (vocabulary,) of the one after it."""
        return self._step((token,))

    def _step(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        self._reserve(self.position + len(tokens))
        logits = self._runtime.run_step(self._cache, tokens, self.position)
        self.position += len(tokens)
        return logits

    def _reserve(self, rows: int) -> None:
        if rows > self._cache.bucket:
            bucket = next(size for size in self._runtime.buckets if size >= rows)
            grown = Cache(self._runtime.backend, self._runtime.architecture, bucket)
            grown.rows[..., : self.position, :] = self._cache.rows[..., : self.position, :]
            self._cache = grown
