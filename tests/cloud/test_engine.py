"""The Keras engine against Keras itself and against the device."""

from pathlib import Path

import numpy as np
import pytest

from edgewise_cloud.engine import Engine, KerasSession
from edgewise_cloud.sources import load_keras
from edgewise_edge import ContextOverflowError, DeviceModel
from tests.conftest import CONTEXT, token_request

TOKENS = [int(token) for token in np.random.default_rng(2).integers(0, 250, 180)]


@pytest.fixture(scope="module")
def engine(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(load_keras(str(checkpoint), tmp_path_factory.mktemp("vocabulary")))


@pytest.mark.parametrize("chunks", [[179], [5, 174], [64, 64, 51], [100, 30, 49]])
def test_cached_steps_give_the_logits_of_the_whole(engine: Engine, chunks: list[int]) -> None:
    """However the text is cut into chunks, over every cache bucket."""
    session, start = KerasSession(engine), 0
    for size in chunks:
        for begin in range(start, start + size, engine.chunk):
            session.prefill(TOKENS[begin : min(begin + engine.chunk, start + size)])
        start += size
    found = session.decode(TOKENS[start])
    ids, backbone = np.array([TOKENS]), engine.model.backbone
    hidden = backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    expected = np.asarray(backbone.token_embedding(hidden, reverse=True))[0, start]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_the_device_says_the_same_token_for_token(engine: Engine, exact_model: DeviceModel) -> None:
    """Greedy, unquantised, 100 tokens and more: through different caches and runtimes."""
    wanted = token_request(TOKENS[:30], 150, temperature=0)
    assert list(engine.generate(wanted)) == list(exact_model.stream_tokens(wanted))


def test_both_sides_draw_the_same(engine: Engine, exact_model: DeviceModel) -> None:
    """With a seed, too: the sampler is shared, and float32 logits agree closely enough."""
    wanted = token_request(TOKENS[:30], 60, temperature=0.7, top_k=10, seed=11)
    assert list(engine.generate(wanted)) == list(exact_model.stream_tokens(wanted))


def test_the_window_is_refused_before_any_work(engine: Engine) -> None:
    """As on the device."""
    with pytest.raises(ContextOverflowError):
        engine.generate(token_request(TOKENS[:10], CONTEXT))
