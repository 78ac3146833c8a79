"""Backends other than LiteRT's, and the way to have models loaded with one."""

from pathlib import Path

import pytest

from edgewise_edge.runtime.backend import Backend, SignatureShapes, Step, Tensors
from edgewise_edge.runtime.open import open_model
from edgewise_edge.runtime.signatures import SCORE


class FailingBackend:
    """A backend with these signatures, whose steps fail."""

    name = "a library"

    def __init__(self, signatures: dict[str, SignatureShapes]) -> None:
        self.signatures = signatures

    def bind(self, signature: str, _inputs: Tensors, _outputs: Tensors) -> Step:
        def step() -> None:
            raise ValueError(f"{signature} is broken")

        return step


class OlderBackend:
    """A backend whose model comes from a converter that knew no signature for scores."""

    def __init__(self, backend: Backend) -> None:
        self.name, self.bind = backend.name, backend.bind
        self.signatures = {
            name: shapes for name, shapes in backend.signatures.items() if name != SCORE
        }


class Opener:
    """Opens models as open_model() does, and records the weight caches it was given."""

    def __init__(self) -> None:
        self.weight_caches: list[Path | None] = []

    def __call__(self, path: Path, threads: int, weight_cache: Path | None) -> Backend:
        self.weight_caches.append(weight_cache)
        return self.open(path, threads, weight_cache)

    def open(self, path: Path, threads: int, weight_cache: Path | None) -> Backend:
        """Open the model; for subclasses to replace."""
        return open_model(path, threads, weight_cache)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Have models loaded with it from now on."""
        patch.setattr("edgewise_edge.runtime.session.open_model", self)
