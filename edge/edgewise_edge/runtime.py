"""Running a device model's steps on LiteRT.

The caches live in NumPy memory that the model reads in place; each step returns only the rows it
adds (edgewise_cloud/graph.py), and they are written behind the rows already there.
"""

import ctypes
import functools
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from ai_edge_litert.compiled_model import CompiledModel, CpuOptions, Options
from ai_edge_litert.environment import Environment
from ai_edge_litert.tensor_buffer import TensorBuffer
from numpy.typing import NDArray

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


@functools.cache
def _environment() -> Environment:
    """LiteRT's process-wide state, made once and never torn down (which LiteRT would log)."""
    environment = Environment.create()
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(environment))
    return environment


@dataclass(frozen=True, slots=True)
class _Signature:
    """One compiled step, with the memory for what goes in and comes out besides the caches."""

    index: int
    inputs: tuple[str, ...]  # in the model's order
    length: int  # tokens a step
    bucket: int  # rows of cache it reads
    tokens: NDArray[np.int32]
    position: NDArray[np.int32]
    rows: NDArray[np.float32]  # (layer, key | value, head, token, head size)
    logits: NDArray[np.float32]  # empty for prefill
    fixed: dict[str, TensorBuffer]
    outputs: tuple[TensorBuffer, ...]


class Runtime:
    """A loaded device model. Its steps run one at a time; sessions may come from many threads."""

    def __init__(self, model: CompiledModel, architecture: Architecture) -> None:
        self.architecture = architecture
        self._model = model
        self._lock = threading.Lock()
        signatures = self._signatures()
        self._decode = {s.bucket: s for s in signatures if s.length == 1}
        self._prefill = {s.bucket: s for s in signatures if s.length > 1}
        self.buckets = sorted(self._decode)
        if not self.buckets or self.buckets != sorted(self._prefill):
            raise ModelIncompatibleError(
                "the model needs a prefill and a decode signature for each cache size; it has "
                f"{sorted(model.get_signature_list())}; convert it again"
            )
        if self.buckets[-1] < architecture.context_window:
            raise ModelIncompatibleError(
                f"the model's largest cache has {self.buckets[-1]} rows, less than its context "
                f"window of {architecture.context_window} tokens; convert it again"
            )

    @classmethod
    def load(cls, path: Path, architecture: Architecture, threads: int) -> Self:
        """Map the `.tflite` at `path` into memory and compile it for `threads` CPU threads."""
        with path.open("rb") as file:
            if file.read(8)[_FLATBUFFER_IDENTIFIER] != b"TFL3":
                raise ModelIncompatibleError(f"{path} is not a TFLite model")
        options = Options(cpu_options=CpuOptions(num_threads=threads))
        try:
            with captured_stderr() as log:
                model = CompiledModel.from_file(
                    str(path), environment=_environment(), options=options
                )
                runtime = cls(model, architecture)
                runtime.session().decode(0)  # LiteRT's last preparations, and a first proof
        except (RuntimeError, ValueError) as error:
            reason = " ".join([str(error), *log[-1:]])
            raise ModelIncompatibleError(f"{path} cannot be loaded by LiteRT: {reason}") from error
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
            buffers = {**signature.fixed, **cache.buffers}
            try:
                self._model.run_by_index(
                    signature.index,
                    [buffers[name] for name in signature.inputs],
                    list(signature.outputs),
                )
            except RuntimeError as error:
                raise RuntimeFailedError(
                    f"LiteRT failed at position {position}: {error}"
                ) from error
            cache.rows[..., position : position + used, :] = signature.rows[..., :used, :]
            return signature.logits.copy()

    @property
    def chunk(self) -> int:
        """Prompt tokens a prefill step takes."""
        return self._prefill[self.buckets[0]].length

    def _signatures(self) -> list[_Signature]:
        found = []
        for name, ends in self._model.get_signature_list().items():
            if parsed := parse_name(name):
                found.append(self._signature(name, ends, *parsed))
        return found

    def _signature(
        self, name: str, ends: dict[str, list[str]], length: int, bucket: int
    ) -> _Signature:
        shape = self.architecture
        rows_shape = (shape.layers, 2, shape.heads, length, shape.head_size)
        tokens, position = _aligned(length, np.int32), _aligned(1, np.int32)
        arrays = {
            "rows": _aligned(int(np.prod(rows_shape)), np.float32),
            "logits": _aligned(shape.vocabulary_size if length == 1 else 0, np.float32),
        }
        expected = {"tokens", "position", *Cache.names(shape)}
        wanted = {"rows", "logits"} if length == 1 else {"rows"}
        if set(ends["inputs"]) != expected or set(ends["outputs"]) != wanted:
            raise ModelIncompatibleError(
                f"the model's step takes {sorted(ends['inputs'])} and returns "
                f"{sorted(ends['outputs'])}; expected {sorted(expected)} and {sorted(wanted)}"
            )
        layer = shape.heads * bucket * shape.head_size
        sizes = dict.fromkeys(Cache.names(shape), layer) | {"tokens": length, "position": 1}
        self._require_sizes(name, sizes | {end: arrays[end].size for end in wanted})
        shared = TensorBuffer.create_from_host_memory
        return _Signature(
            index=self._model.get_signature_index(name),
            inputs=tuple(ends["inputs"]),
            length=length,
            bucket=bucket,
            tokens=tokens,
            position=position,
            rows=arrays["rows"].reshape(rows_shape),
            logits=arrays["logits"],
            fixed={"tokens": shared(tokens), "position": shared(position)},
            outputs=tuple(shared(arrays[end]) for end in ends["outputs"]),
        )

    def _require_sizes(self, name: str, sizes: dict[str, int]) -> None:
        """LiteRT writes past the end of memory that is too small: compare before sharing any."""
        details = self._model.get_input_tensor_details(name)
        details |= self._model.get_output_tensor_details(name)
        for end, detail in details.items():
            if math.prod(detail["shape"]) != sizes[end]:
                raise ModelIncompatibleError(
                    f"{name} has {end} of shape {detail['shape']} where its manifest means "
                    f"{sizes[end]} numbers; convert the model again"
                )


class Cache:
    """Keys and values of up to `bucket` tokens, in memory the model reads in place."""

    def __init__(self, shape: Architecture, bucket: int) -> None:
        self.bucket = bucket
        layer = shape.heads * bucket * shape.head_size
        memory = _aligned(shape.layers * 2 * layer, np.float32)
        self.rows = memory.reshape(shape.layers, 2, shape.heads, bucket, shape.head_size)
        self.buffers = {
            name: TensorBuffer.create_from_host_memory(part)
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
        self._cache = Cache(runtime.architecture, runtime.buckets[0])
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
            grown = Cache(self._runtime.architecture, bucket)
            grown.rows[..., : self.position, :] = self._cache.rows[..., : self.position, :]
            self._cache = grown
