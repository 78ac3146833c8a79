"""The plain Interpreter API says what CompiledModel says; here it is LiteRT's own."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgewise_edge import DeviceModel, backend
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.interpreter import InterpreterBackend
from edgewise_edge.manifest import MODEL_FILE
from edgewise_edge.runtime import Runtime
from tests.conftest import CONTEXT

TOKENS = list(range(60, 60 + 150))


def test_both_give_the_same_logits(exact_model: DeviceModel, exact_folder: Path) -> None:
    """Through prefill, decode and the growth of the cache."""
    interpreter = Interpreter(str(exact_folder / MODEL_FILE), num_threads=1)
    plain = Runtime(InterpreterBackend(interpreter), exact_model.runtime.architecture)
    sessions = [exact_model.runtime.session(), plain.session()]
    for session in sessions:
        for start in range(0, 120, plain.chunk):
            session.prefill(TOKENS[start : min(start + plain.chunk, 120)])
    for token in TOKENS[120:]:
        compiled, interpreted = (session.decode(token) for session in sessions)
        np.testing.assert_allclose(interpreted, compiled, atol=2e-4)
    assert sessions[1].position == len(TOKENS) < CONTEXT


def test_without_either_library_the_error_says_what_to_install(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are looked for by name."""
    monkeypatch.setattr(backend.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelIncompatibleError, match="pip install ai-edge-litert"):
        backend.open_model(exact_folder / MODEL_FILE, 1)
