"""Running a device model's steps (edgewise_cloud/convert/graph.py says what a step is)."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.errors import ModelIncompatibleError, RuntimeFailedError
from edgewise_edge.runtime.arrays import ALIGNMENT, aligned, stacked
from edgewise_edge.runtime.backend import Backend, Shape, Step
from edgewise_edge.runtime.kv_cache import Cache, cache_names, whole_granules
from edgewise_edge.runtime.open import open_model
from edgewise_edge.runtime.signatures import DECODE, MASKED, PREFILL
from edgewise_edge.runtime.stderr import captured_stderr, silence_native_exit
from edgewise_edge.store.manifest import Architecture

_FLATBUFFER_IDENTIFIER = slice(4, 8)
# Prompt tokens a prefill step takes at most. Larger chunks read the weights less often, but need
# more memory for what lies between the layers, and a cancellation waits for the chunk in hand.
PREFILL_CHUNK = 256


class Runtime:
    """A loaded device model. Its steps run one at a time; sessions may come from many threads."""

    def __init__(self, backend: Backend, architecture: Architecture) -> None:
        self.architecture = architecture
        self.backend = backend
        self.chunk = PREFILL_CHUNK
        self._lock = threading.Lock()
        for name in (PREFILL, DECODE):
            _require(backend, name, architecture)
        self._one = _Ends.of(architecture, 1)
        self._many = _Ends.of(architecture, PREFILL_CHUNK)
        # Where rows of a cache begin at aligned addresses, a prompt's are written there at once.
        self._in_place = architecture.width * np.dtype(np.float32).itemsize % ALIGNMENT == 0

    @classmethod
    def load(
        cls,
        path: Path,
        architecture: Architecture,
        threads: int,
        weight_cache: Path | None = None,
    ) -> Self:
        """Map the `.tflite` at `path` into memory and prepare it for `threads` CPU threads.

        `weight_cache` is open_model's. Raises ModelIncompatibleError.
        """
        with path.open("rb") as file:
            if file.read(8)[_FLATBUFFER_IDENTIFIER] != b"TFL3":
                raise ModelIncompatibleError(f"{path} is not a TFLite model")
        try:
            with captured_stderr() as log:
                runtime = cls(open_model(path, threads, weight_cache), architecture)
                runtime.session().read([0])  # the library's last preparations, and a first proof
        except (RuntimeError, ValueError) as error:
            reason = " ".join([str(error), *log[-1:]])
            raise ModelIncompatibleError(f"{path} cannot be loaded: {reason}") from error
        finally:
            silence_native_exit()
        return runtime

    def session(self) -> "Session":
        """An empty session."""
        return Session(self, Cache(self.architecture), [])

    def run(self, cache: Cache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Read `tokens` at `position` and add their rows to `cache`.

        The logits (vocabulary,) of what comes after them.
        """
        with self._lock:
            try:
                if len(tokens) == 1:
                    return self._decode(cache, tokens, position)
                return self._prefill(cache, tokens, position)
            except (RuntimeError, ValueError) as error:
                raise RuntimeFailedError(
                    f"{self.backend.name} failed at position {position}: {error}"
                ) from error

    def _decode(self, cache: Cache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        rows = whole_granules(position)
        bound: _Bound | None = cache.decode
        if bound is None or bound.mask.shape[1] != 1 + rows:
            bound = cache.decode = self._bound(DECODE, self._one, cache, rows)
            cache.visible = None
        if cache.visible == position - 1:
            bound.mask[0, position] = 0
        else:  # where a longer text may have been before
            bound.mask[0, : 1 + position] = 0
            bound.mask[0, 1 + position :] = MASKED
        cache.visible = position
        return bound.run(cache, tokens, position)

    def _prefill(self, cache: Cache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        length = len(tokens)
        ends = self._many.first(length)
        if self._in_place:
            ends = ends.writing_to(_new_names(self.architecture), cache.rows, position)
        # The row that an empty cache must show is masked, and may be written to meanwhile.
        bound = self._bound(PREFILL, ends, cache, max(1, position))
        bound.mask[:, :length] = np.triu(np.full((length, length), MASKED, np.float32), k=1)
        bound.mask[:, length : length + position] = 0
        return bound.run(cache, tokens, position)

    def _bound(self, signature: str, ends: "_Ends", cache: Cache, rows: int) -> "_Bound":
        mask = aligned((ends.length, ends.length + rows), np.float32)
        mask[:] = MASKED
        inputs = ends.inputs | {"mask": mask} | cache.beginning(rows)
        return _Bound(ends, mask, self.backend.bind(signature, inputs, ends.outputs))


@dataclass(frozen=True, slots=True)
class _Ends:
    """What goes in and comes out of a step of `length` tokens, besides a cache and a mask."""

    length: int
    inputs: dict[str, NDArray[Any]]
    rows: NDArray[np.float32]  # (layers x key | value, length, heads, head size)
    outputs: dict[str, NDArray[Any]]
    in_place: bool = False  # whether `rows` are those of a cache

    @classmethod
    def of(cls, shape: Architecture, length: int) -> Self:
        """Memory for it; of what is never used, none is taken."""
        inputs = {name: aligned((length,), np.int32) for name in ("tokens", "positions")}
        rows = stacked(shape.layers * 2, (length, shape.heads, shape.head_size), np.float32)
        outputs = dict(zip(_new_names(shape), rows, strict=True))
        outputs["logits"] = aligned((shape.vocabulary_size,), np.float32)
        return cls(length, inputs, rows, outputs)

    def first(self, length: int) -> Self:
        """For the first `length` tokens of these, with the index of the last as an input."""
        inputs = {name: array[:length] for name, array in self.inputs.items()}
        inputs["last"] = aligned((1,), np.int32)
        inputs["last"][0] = length - 1
        outputs = {
            name: array if name == "logits" else array[:length]
            for name, array in self.outputs.items()
        }
        return type(self)(length, inputs, self.rows[:, :length], outputs)

    def writing_to(self, names: list[str], cache: NDArray[np.float32], position: int) -> Self:
        """With the new rows written to where a cache wants them."""
        rows = cache[:, position : position + self.length]
        outputs = dict(zip(names, rows, strict=True)) | {"logits": self.outputs["logits"]}
        return type(self)(self.length, self.inputs, rows, outputs, in_place=True)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A signature ready to run on a cache, of which it sees as many rows as the mask is wide."""

    ends: _Ends
    mask: NDArray[np.float32]
    step: Step

    def run(self, cache: Cache, tokens: Sequence[int], position: int) -> NDArray[np.float32]:
        """Read `tokens` and add their rows to `cache`; a copy of the logits."""
        ends, end = self.ends, position + len(tokens)
        if len(tokens) == 1:  # a slice would make an array of it first
            ends.inputs["tokens"][0], ends.inputs["positions"][0] = tokens[0], position
        else:
            ends.inputs["tokens"][:] = tokens
            ends.inputs["positions"][:] = np.arange(position, end)
        self.step()
        if not ends.in_place:
            cache.rows[:, position:end] = ends.rows
        logits: NDArray[np.float32] = ends.outputs["logits"].copy()
        return logits


def _new_names(shape: Architecture) -> list[str]:
    return [f"new_{name}" for name in cache_names(shape)]


def _require(backend: Backend, signature: str, shape: Architecture) -> None:
    """Raise ModelIncompatibleError unless the signature is there, with the manifest's sizes.

    LiteRT writes past the end of memory that is too small: compare before giving it any.
    """
    if signature not in backend.signatures:
        raise ModelIncompatibleError(
            f"the model has no signature '{signature}', it has {sorted(backend.signatures)}; "
            "convert it again"
        )
    found = backend.signatures[signature]
    rows = (None, shape.heads, shape.head_size)
    inputs: dict[str, tuple[int | None, ...]] = {
        "tokens": (None,),
        "positions": (None,),
        "mask": (None, None),
        **dict.fromkeys(cache_names(shape), rows),
    }
    if signature == PREFILL:
        inputs["last"] = (1,)
    outputs = {**dict.fromkeys(_new_names(shape), rows), "logits": (shape.vocabulary_size,)}
    for kind, ends, expected in (
        ("inputs", found.inputs, inputs),
        ("outputs", found.outputs, outputs),
    ):
        missing, unknown = sorted(expected.keys() - ends), sorted(ends.keys() - expected)
        if missing or unknown:
            raise ModelIncompatibleError(
                f"the {kind} of the model's '{signature}' lack {missing} and have {unknown} that "
                "mean nothing here; convert the model again"
            )
        for name, dimensions in expected.items():
            if not _fits(ends[name], dimensions):
                raise ModelIncompatibleError(
                    f"{name} of the model's '{signature}' has the shape {ends[name]} where its "
                    f"manifest means {dimensions} (None: any); convert the model again"
                )


def _fits(found: Shape, expected: tuple[int | None, ...]) -> bool:
    return len(found) == len(expected) and all(
        want is None or have == want for have, want in zip(found, expected, strict=True)
    )


class Session:
    """One text being read and written: its tokens so far, and what the model made of them."""

    def __init__(self, runtime: Runtime, cache: Cache, tokens: list[int]) -> None:
        self._runtime = runtime
        self.cache = cache
        self.tokens = tokens

    @property
    def position(self) -> int:
        """Where the next token goes."""
        return len(self.tokens)

    def restart(self) -> None:
        """Forget what was read."""
        self.tokens = []

    def read(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Read at least one more token; the logits (vocabulary,) of the one after them.

        At most Runtime.chunk tokens at a time. Raises RuntimeFailedError, and is then where it was
        before.
        """
        logits = self._runtime.run(self.cache, tokens, self.position)
        self.tokens += tokens
        return logits
