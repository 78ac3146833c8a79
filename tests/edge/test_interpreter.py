"""The plain Interpreter API says what CompiledModel says; here it is LiteRT's own."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgewise_edge import DeviceModel
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime import open as opening
from edgewise_edge.runtime.interpreter import InterpreterBackend
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from tests.conftest import CONTEXT, token_request

TOKENS = list(range(60, 60 + CONTEXT))


@pytest.fixture(scope="module")
def plain(exact_model: DeviceModel, exact_folder: Path) -> Runtime:
    interpreter = Interpreter(str(exact_folder / MODEL_FILE), num_threads=1)
    return Runtime(InterpreterBackend(interpreter), exact_model.runtime.architecture)


@pytest.mark.parametrize("steps", [[1] * 70, [64, 1, 63, 1, 63], [128, 1, 1, 2, 60], [2, 127, 3]])
def test_both_give_the_same_logits(
    exact_model: DeviceModel, plain: Runtime, steps: list[int]
) -> None:
    """After steps of one token and of many, over caches of any length."""
    sessions = [exact_model.runtime.session(), plain.session()]
    for size in steps:
        start = sessions[0].position
        compiled, interpreted = (one.read(TOKENS[start : start + size]) for one in sessions)
        np.testing.assert_allclose(interpreted, compiled, rtol=0, atol=2e-4)
    assert sessions[1].position == sum(steps) <= CONTEXT


def test_both_write_the_same_tokens(exact_model: DeviceModel, plain: Runtime) -> None:
    """Drawn with a seed, a second request going on where the first ended."""
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, plain)
    text = TOKENS[:70]
    for seed in (1, 2):
        wanted = token_request(text, 40, seed=seed)
        text += (found := list(model.stream_tokens(wanted)))
        assert found == list(exact_model.stream_tokens(wanted))


def test_the_interpreter_keeps_no_weights(
    exact_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has no file to leave, and that is nothing to warn of."""

    def open_model(path: Path, threads: int, _weight_cache: Path | None) -> InterpreterBackend:
        return InterpreterBackend(Interpreter(str(path), num_threads=threads))

    monkeypatch.setattr("edgewise_edge.runtime.session.open_model", open_model)
    DeviceModel.load(exact_folder, threads=1, weight_cache=tmp_path / "weights")
    assert not caplog.records
    assert not list((tmp_path / "weights").glob("*"))


def test_without_either_library_the_error_says_what_to_install(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are looked for by name."""
    monkeypatch.setattr(opening.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ModelIncompatibleError, match="pip install ai-edge-litert"):
        opening.open_model(exact_folder / MODEL_FILE, 1, None)
