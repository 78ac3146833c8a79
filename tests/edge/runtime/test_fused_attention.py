"""The attention kernel gives what builtin ops give, over caches of half the size."""

import gc
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from edgewise_edge import DeviceModel, Manifest, RuntimeFailedError
from edgewise_edge.model import load_tokenizer
from edgewise_edge.runtime.attention import BuiltinAttention, FusedAttention
from edgewise_edge.runtime.interpreter import InterpreterBackend
from edgewise_edge.runtime.litert import CompiledBackend
from edgewise_edge.runtime.session import Runtime
from edgewise_edge.runtime.signatures import is_fused
from edgewise_edge.store.manifest import MODEL_FILE, Architecture
from tests.conftest import CONTEXT, token_request, write_checkpoint
from tests.support import attention_kernel

TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, CONTEXT)]
CLOSE = 0.02  # of logits whose standard deviation is about 4: float16 has 11 bits


@pytest.fixture(scope="module")
def folder(graphs_made_once: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny unquantized model whose heads the kernel can read: two of 16 numbers."""
    from edgewise_cloud.convert.convert import convert
    from edgewise_cloud.convert.quantization import Quantization

    if not attention_kernel.compiled():
        pytest.skip("there is no C compiler")
    made = tmp_path_factory.mktemp("models")
    convert(str(write_checkpoint(made / "source", width=32)), made / "tiny", Quantization.NONE)
    return made / "tiny"


@pytest.fixture(scope="module")
def shape(folder: Path) -> Architecture:
    return Manifest.read(folder).architecture


@pytest.fixture(scope="module")
def builtin(folder: Path, shape: Architecture) -> Runtime:
    runtime = Runtime(CompiledBackend(folder / MODEL_FILE, 1), shape)
    assert isinstance(runtime.attention, BuiltinAttention)
    return runtime


@pytest.fixture(scope="module", params=[1, 2, 3])
def fused(folder: Path, shape: Architecture, request: pytest.FixtureRequest) -> Runtime:
    """Loaded as the app does, with so many threads."""
    runtime = Runtime.load(folder / MODEL_FILE, shape, request.param)
    assert isinstance(runtime.attention, FusedAttention)
    return runtime


@pytest.mark.parametrize(
    "steps", [[1] * 70, [64, 1, 63, 1, 63], [128, 1, 7, 8, 9], [2, 127, 3], [20, 70, 101]]
)
def test_both_give_the_same_logits(builtin: Runtime, fused: Runtime, steps: list[int]) -> None:
    """After steps of one token, of a few and of many, and over caches of any length."""
    sessions = [builtin.session(), fused.session()]
    for size in steps:
        start = sessions[0].position
        expected, found = (each.forward(TOKENS[start : start + size]) for each in sessions)
        np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE)
    position = sessions[0].position
    rows = [each.cache.rows[:, :position].astype(np.float32) for each in sessions]
    np.testing.assert_allclose(rows[1], rows[0], rtol=2e-3, atol=0.02)


def test_both_give_the_same_scores(builtin: Runtime, fused: Runtime) -> None:
    """Over several chunks, of which the last is shorter."""
    sessions = [builtin.session(), fused.session()]
    for start, end in ((0, 64), (64, 128), (128, 150)):
        expected, found = (
            session.score(TOKENS[start:end], TOKENS[start + 1 : end + 1], 1) for session in sessions
        )
        for one, other in zip(found, expected, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=CLOSE)


def test_the_same_tokens_give_the_same_logits(fused: Runtime) -> None:
    """To the last bit, whichever thread reads which rows."""
    sessions = [fused.session() for _ in range(3)]
    for session in sessions:
        session.forward(TOKENS[:120])
    for token in TOKENS[120:150]:
        first, *others = (session.forward([token]).copy() for session in sessions)
        for other in others:
            np.testing.assert_array_equal(other, first)


def test_the_cache_takes_half(builtin: Runtime, fused: Runtime, shape: Architecture) -> None:
    """Two bytes for each number instead of four."""
    assert fused.bytes_per_token == 2 * shape.layers * shape.width * 2
    assert builtin.bytes_per_token == 2 * fused.bytes_per_token
    assert fused.new_cache(CONTEXT).rows.nbytes == builtin.new_cache(CONTEXT).rows.nbytes // 2


def test_a_cached_prefix_changes_nothing(folder: Path, fused: Runtime) -> None:
    """Requests that go on from earlier ones, or part from them, or come back."""
    manifest = Manifest.read(folder)
    tokenizer = load_tokenizer(folder, manifest)
    with_cache, without = (DeviceModel(manifest, tokenizer, fused, memory) for memory in (2**20, 0))
    for text in (TOKENS[:70], TOKENS[:100], [*TOKENS[:40], 7, 8], TOKENS[:100]):
        request = token_request(text, 12, temperature=0)
        assert list(with_cache.stream_tokens(request)) == list(without.stream_tokens(request))
    assert with_cache.cached_prefix(TOKENS[:100]) == 99


def test_a_cache_that_is_full_is_refused(fused: Runtime) -> None:
    """Before the kernel would write past its end; the session is unchanged."""
    session = fused.session()
    session.cache = fused.new_cache(64)
    session.forward(TOKENS[:60])
    with pytest.raises(RuntimeFailedError, match="space for 64 tokens, not 65"):
        session.forward(TOKENS[60:65])
    session.forward(TOKENS[60:64])
    with pytest.raises(RuntimeFailedError, match="space for 64 tokens, not 65"):
        session.forward(TOKENS[64:65])
    assert session.position == 64


def test_the_same_folder_runs_without_the_kernel(folder: Path, builtin: Runtime) -> None:
    """In LiteRT, and in the plain interpreter."""
    interpreted = InterpreterBackend(Interpreter(str(folder / MODEL_FILE), num_threads=1))
    for backend in (builtin.backend, interpreted):
        assert backend.signatures
        assert not any(map(is_fused, backend.signatures))
    expected = builtin.session().forward(TOKENS[:9])
    found = Runtime(interpreted, builtin.architecture).session().forward(TOKENS[:9])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def count_threads() -> int:
    """Of this process, once everything is collected."""
    gc.collect()
    return len(list(Path("/proc/self/task").iterdir()))


def test_an_unloaded_model_leaves_no_thread(folder: Path, shape: Architecture) -> None:
    """The kernel's threads end with the compiled model, whose operators hold them."""
    before = count_threads()
    runtime = Runtime.load(folder / MODEL_FILE, shape, 3)
    runtime.session().forward(TOKENS[:70])
    assert count_threads() >= before + 2
    del runtime
    assert count_threads() <= before


def test_without_a_compiler_the_build_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves nothing behind; the wheel is then one of pure Python."""
    monkeypatch.setenv("CC", str(tmp_path / "no compiler"))
    hook = attention_kernel.build_hook()
    assert "cannot be started" in (hook.compile_kernel(tmp_path) or "")
    assert not list(tmp_path.iterdir())
