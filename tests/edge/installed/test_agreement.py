"""The agreement gate: a revision that does worse here than at its publisher's is refused."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import Model

from edgewise_edge import (
    DeviceModel,
    ModelCorruptError,
    ModelIncompatibleError,
    ModelRefusedError,
)
from edgewise_edge.agreement import Agreement, measure, require_agreement
from edgewise_edge.installed.evaluation import MAX_TOKENS, Evaluation, Window
from edgewise_edge.store.manifest import MODEL_FILE
from edgewise_edge.trial import try_model
from tests.support.damaged_folder import copied_model, replace_model

TEXT = "Once upon a time there was a little fox who lived in the forest with her mother. One day"


@pytest.fixture(scope="module")
def tales() -> DeviceModel:
    """The bundled model."""
    return DeviceModel.load("tales", threads=1)


@pytest.fixture(scope="module")
def evaluation(tales: DeviceModel) -> Evaluation:
    """What the bundled model does on a text, as its publisher would measure it."""
    token_ids = tuple(tales.tokenizer.encode(TEXT))
    session = tales.runtime.session()
    top1 = tuple(int(session.forward([token]).argmax()) for token in token_ids[:-1])
    made = Evaluation(
        windows=(Window(token_ids, top1),),
        text_bytes=len(TEXT.encode()),
        least_top1=0.95,
        most_bits_per_byte=10.0,
    )
    found = measure(tales.runtime, made)
    return replace(made, most_bits_per_byte=found.bits_per_byte * 1.05)


class Scripted:
    """A runtime and its sessions, whose logits are given."""

    def __init__(self, logits: list[float], tales: DeviceModel) -> None:
        self.architecture = tales.manifest.architecture
        self._logits = np.array(logits, np.float32)

    def session(self) -> "Scripted":
        return self

    def forward(self, tokens: list[int]) -> np.ndarray:
        return self._logits


def shuffled(content: bytes) -> bytes:
    """A model with the weights of each matrix in another order."""
    data = bytearray(content)
    model, generator = Model.GetRootAs(data, 0), np.random.default_rng(0)
    for index in range(model.BuffersLength()):
        weights = model.Buffers(index).DataAsNumpy()
        if isinstance(weights, np.ndarray) and weights.size > 50_000:
            weights[:] = generator.permutation(weights)
    return bytes(data)


def of(top1: int, expected: int) -> Evaluation:
    """One token that is predicted."""
    return Evaluation(
        windows=(Window((0, expected), (top1,)),),
        text_bytes=2,
        least_top1=0.5,
        most_bits_per_byte=100.0,
    )


def test_a_model_agrees_with_itself(tales: DeviceModel, evaluation: Evaluation) -> None:
    """Entirely, and within the publisher's tolerance."""
    found = require_agreement(tales.runtime, evaluation, Path("here"))
    assert found.top1 == 1
    assert found.tokens == len(evaluation.windows[0].token_ids) - 1
    assert 0.5 < found.bits_per_byte < 3


def test_bits_are_computed_in_float64(tales: DeviceModel) -> None:
    """Logits of any size: three that are equal cost log2(3)."""
    runtime = Scripted([3e38, 3e38, 3e38, -3e38], tales)
    assert measure(runtime, of(top1=0, expected=2)) == Agreement(
        1, pytest.approx(math.log2(3) / 2), 1
    )


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_nan_is_no_agreement(tales: DeviceModel, odd: float) -> None:
    """Nor is anything infinite, wherever it is."""
    runtime = Scripted([5, odd, 0, 0], tales)
    assert measure(runtime, of(top1=0, expected=0)) == Agreement(0, math.inf, 1)
    with pytest.raises(ModelRefusedError, match=r"agrees with its publisher on 0\.0% of 1 tokens"):
        require_agreement(runtime, of(top1=0, expected=0), Path("here"))


def test_a_model_whose_weights_were_shuffled_is_refused(
    tmp_path: Path, evaluation: Evaluation
) -> None:
    """It passes its trial, and writes nonsense: the gate finds it, with both figures."""
    folder = copied_model(tmp_path / "model")
    path = tmp_path / "evaluation.json"
    path.write_bytes(evaluation.to_json())
    assert try_model(folder, evaluation=path) > 0
    replace_model(folder, shuffled((folder / MODEL_FILE).read_bytes()))
    assert try_model(folder) > 0
    with pytest.raises(
        ModelRefusedError, match=r"on \d+\.\d% of \d+ tokens, at least 95\.0% is needed"
    ):
        try_model(folder, evaluation=path)


def test_more_bits_than_the_publisher_allows_are_refused(
    tales: DeviceModel, evaluation: Evaluation
) -> None:
    """Although the likeliest tokens agree."""
    strict = replace(evaluation, most_bits_per_byte=0.5)
    with pytest.raises(ModelRefusedError, match=r"at most 0\.500 is allowed"):
        require_agreement(tales.runtime, strict, Path("here"))


def test_an_evaluation_of_another_model_does_not_fit(tales: DeviceModel) -> None:
    """Its tokens are not in the vocabulary, or its window is too long."""
    vocabulary = tales.manifest.architecture.vocabulary_size
    with pytest.raises(ModelIncompatibleError, match="the model takes 512 below 4096"):
        measure(tales.runtime, of(top1=0, expected=vocabulary))
    length = tales.manifest.architecture.context_window + 1
    window = Window((0,) * length, (0,) * (length - 1))
    with pytest.raises(ModelIncompatibleError, match="513 tokens"):
        measure(tales.runtime, replace(of(0, 0), windows=(window,)))


def test_an_evaluation_survives_its_json(evaluation: Evaluation, tmp_path: Path) -> None:
    """Which is read strictly."""
    assert Evaluation.parse(evaluation.to_json()) == evaluation
    with pytest.raises(ModelCorruptError, match="cannot be read"):
        Evaluation.read(tmp_path / "missing.json")


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"windows": []},
        {"windows": [{"token_ids": [1], "top1": []}]},
        {"windows": [{"token_ids": [1, 2], "top1": [1, 2]}]},
        {"windows": [{"token_ids": [1, -2], "top1": [1]}]},
        {"windows": [{"token_ids": [1, 2.5], "top1": [1]}]},
        {"windows": [{"token_ids": [1, True], "top1": [1]}]},
        {"windows": [{"token_ids": "12", "top1": "1"}]},
        {"windows": [{"token_ids": [0] * (MAX_TOKENS + 2), "top1": [0] * (MAX_TOKENS + 1)}]},
        {"bytes": 0},
        {"least_top1": 1.5},
        {"least_top1": math.nan},
        {"most_bits_per_byte": math.inf},
        {"most_bits_per_byte": "1"},
        {"measured": []},
        {"made_with": 1},
        {"unknown": 1},
    ],
)
def test_an_invalid_evaluation_is_refused(change: dict[str, object]) -> None:
    """Whatever is in the file."""
    raw = json.loads(of(0, 0).to_json())
    with pytest.raises(ModelCorruptError, match=r"evaluation\.json"):
        Evaluation.parse(json.dumps(raw | change))


@pytest.mark.parametrize("text", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_other_bytes_are_no_evaluation(text: bytes) -> None:
    """Nor are too many."""
    with pytest.raises(ModelCorruptError, match=r"evaluation\.json"):
        Evaluation.parse(text)
