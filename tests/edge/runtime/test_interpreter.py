"""The plain Interpreter API gives what CompiledModel gives; here it is LiteRT's own."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgewise_edge import DeviceModel
from edgewise_edge.errors import ModelIncompatibleError
from edgewise_edge.runtime.backend import Backend
from edgewise_edge.runtime.interpreter import InterpreterBackend
from edgewise_edge.runtime.open import open_model
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.store.manifest import MODEL_FILE
from tests.conftest import CONTEXT, token_request
from tests.edge.runtime.backends import Opener
from tests.edge.runtime.scores import assert_close

TOKENS = list(range(60, 60 + CONTEXT))


@pytest.fixture(scope="module")
def interpreted(exact_model: DeviceModel, exact_folder: Path) -> Runtime:
    interpreter = Interpreter(str(exact_folder / MODEL_FILE), num_threads=1)
    return Runtime(InterpreterBackend(interpreter), exact_model.runtime.architecture)


@pytest.mark.parametrize("steps", [[1] * 70, [64, 1, 63, 1, 63], [128, 1, 1, 2, 60], [2, 127, 3]])
def test_both_give_the_same_logits(
    exact_model: DeviceModel, interpreted: Runtime, steps: list[int]
) -> None:
    """After decode and prefill steps, over caches of any length."""
    sessions = [exact_model.runtime.session(), interpreted.session()]
    for size in steps:
        start = sessions[0].position
        expected, found = (each.forward(TOKENS[start : start + size]) for each in sessions)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)
    assert sessions[1].position == sum(steps) <= CONTEXT


def test_both_generate_the_same_tokens(exact_model: DeviceModel, interpreted: Runtime) -> None:
    """Sampled with a seed; the second request continues the first."""
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, interpreted)
    text = TOKENS[:70]
    for seed in (1, 2):
        request = token_request(text, 40, seed=seed)
        text += (found := list(model.stream_tokens(request)))
        assert found == list(exact_model.stream_tokens(request))


def test_both_give_the_same_scores(exact_model: DeviceModel, interpreted: Runtime) -> None:
    """Over several chunks, of which the last is shorter."""
    model = DeviceModel(exact_model.manifest, exact_model.tokenizer, interpreted)
    assert_close(model.score(TOKENS[:150], top=20), exact_model.score(TOKENS[:150], top=20))


def test_the_interpreter_writes_no_prepared_weights(
    exact_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has none to write, which is no reason for a warning."""

    class InterpreterOpener(Opener):
        def open(self, path: Path, threads: int, _weight_cache: Path | None) -> Backend:
            return InterpreterBackend(Interpreter(str(path), num_threads=threads))

    InterpreterOpener().install(monkeypatch)
    DeviceModel.load(exact_folder, threads=1, weight_cache=tmp_path / "weights")
    assert not caplog.records
    assert not list((tmp_path / "weights").glob("*"))


def test_without_either_library_the_error_says_what_to_install(
    exact_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And names both."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(
        ModelIncompatibleError, match=r"ai-edge-litert nor tflite-runtime.*pip install"
    ):
        open_model(exact_folder / MODEL_FILE, 1, None)
