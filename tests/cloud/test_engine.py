"""The Keras engine against Keras itself and against the device."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgewise_cloud.serving.engine import Engine, KerasSession
from edgewise_cloud.sources import load_keras
from edgewise_edge import ContextOverflowError, DeviceModel
from tests.conftest import CONTEXT, token_request

TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, 180)]


@pytest.fixture(scope="module")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(load_keras(str(checkpoint), tmp_path_factory.mktemp("vocabulary")))


def whole(engine: Engine, tokens: list[int]) -> NDArray[np.float32]:
    """Keras's own logits after each of `tokens`, read at once and without a cache."""
    ids, backbone = np.array([tokens]), engine.model.backbone
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits: NDArray[np.float32] = np.asarray(backbone.token_embedding(hidden, reverse=True))[0]
    return logits


@pytest.mark.parametrize(
    "steps",
    [[64, 64, 52], [5, 64, 64, 47], [1, 63, 64, 1, 51], [64, 36, 30, 50], [2, 62, 2, 63, 1, 1, 49]],
)
def test_cached_steps_give_the_logits_of_the_whole(engine: Engine, steps: list[int]) -> None:
    """However the text is cut into steps, after each of them, over every cache bucket."""
    session, expected = KerasSession(engine), whole(engine, TOKENS)
    for size in steps:
        found = session.read(TOKENS[session.position : session.position + size])
        np.testing.assert_allclose(found, expected[session.position - 1], rtol=0, atol=1e-4)
    assert session.position == len(TOKENS)


@pytest.mark.parametrize("before", [3, 70, 180])
def test_a_session_that_starts_again_forgets(engine: Engine, before: int) -> None:
    """Whatever was in its cache."""
    session, expected = KerasSession(engine), whole(engine, TOKENS[:80])
    for start in range(0, before, engine.chunk):
        session.read(TOKENS[::-1][start : min(start + engine.chunk, before)])
    session.restart()
    for size in (1, 9, 1, 60, 9):
        found = session.read(TOKENS[session.position : session.position + size])
        np.testing.assert_allclose(found, expected[session.position - 1], rtol=0, atol=1e-4)


def test_the_device_says_the_same_token_for_token(engine: Engine, exact_model: DeviceModel) -> None:
    """Greedy, unquantised, 100 tokens and more: through different caches and runtimes."""
    wanted = token_request(TOKENS[:30], 150, temperature=0)
    assert list(engine.generate(wanted)) == list(exact_model.stream_tokens(wanted))


def test_both_sides_draw_the_same(engine: Engine, exact_model: DeviceModel) -> None:
    """With a seed, too: the sampler is shared, and float32 logits agree closely enough."""
    wanted = token_request(TOKENS[:30], 60, temperature=0.7, top_k=10, seed=11)
    assert list(engine.generate(wanted)) == list(exact_model.stream_tokens(wanted))


@pytest.mark.parametrize(("prompt", "answer"), [(10, CONTEXT), (10, CONTEXT - 9), (CONTEXT, 1)])
def test_the_window_is_refused_before_any_work(engine: Engine, prompt: int, answer: int) -> None:
    """The service answers whole or not at all."""
    with pytest.raises(ContextOverflowError):
        engine.generate(token_request([1] * prompt, answer))


def test_the_window_can_be_used_to_its_end(engine: Engine) -> None:
    """To the last token."""
    assert len(list(engine.generate(token_request(TOKENS[:170], CONTEXT - 170)))) == CONTEXT - 170
