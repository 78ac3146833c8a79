"""Evaluation: bits per byte and perplexity, checked against a direct computation."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from edgewise_cloud.convert.evaluate import evaluate, evaluate_model
from edgewise_cloud.errors import CheckpointError, TextError
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_edge import DeviceModel
from tests.conftest import CONTEXT, write_checkpoint
from tests.support.command_line import RunCommand
from tests.support.progress import Recorded


@pytest.fixture(scope="module")
def keras(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> KerasModel:
    return load_keras(str(checkpoint), tmp_path_factory.mktemp("keras"))


def nats(keras: KerasModel, tokens: list[int], first: int) -> float:
    """The loss of Keras, in nats, on the tokens from `first` on, read in one pass."""
    ids = np.array([tokens[:-1]], np.int32)
    hidden = keras.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = np.asarray(keras.backbone.token_embedding(hidden, reverse=True), np.float64)[0]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -sum(logs[at - 1, tokens[at]] for at in range(first, len(tokens)))


def test_a_text_shorter_than_a_window(keras: KerasModel, exact_model: DeviceModel) -> None:
    """Each token but the first is predicted, the end-of-text token included."""
    text = "the cat, the hat and the thing in there"
    found = evaluate(keras, exact_model.runtime, [text])
    (end,) = keras.tokenizer.end_ids
    tokens = [end, *keras.tokenizer.encode(text), end]
    assert (found.tokens, found.text_bytes) == (len(tokens) - 1, len(text))
    expected = nats(keras, tokens, 1)
    assert found.keras.bits_per_byte == pytest.approx(expected / math.log(2) / len(text), rel=1e-5)
    assert found.keras.perplexity == pytest.approx(math.exp(expected / (len(tokens) - 1)), rel=1e-4)
    assert found.device.bits_per_byte == pytest.approx(found.keras.bits_per_byte, rel=1e-5)


def test_windows_overlap_by_half(keras: KerasModel, exact_model: DeviceModel) -> None:
    """The loss of a longer text is the sum over half windows, each read after the half before."""
    text = "there was a king in the west, and a hen. " * 9
    tokens = [*keras.tokenizer.end_ids, *keras.tokenizer.encode(text), *keras.tokenizer.end_ids]
    half = CONTEXT // 2
    assert 2 * CONTEXT > len(tokens) > CONTEXT + 3
    expected = nats(keras, tokens[: half + 1], 1)
    for start in range(half, len(tokens) - 1, half):
        expected += nats(keras, tokens[start - half : start + half + 1], half + 1)
    found = evaluate(keras, exact_model.runtime, [text])
    assert found.tokens == len(tokens) - 1
    assert found.keras.bits_per_byte == pytest.approx(expected / math.log(2) / len(text), rel=1e-4)


def test_documents_are_read_as_one_text(keras: KerasModel, exact_model: DeviceModel) -> None:
    """Their bytes add up, and an end-of-text token follows each."""
    found = evaluate(keras, exact_model.runtime, ["the king", "the hen"])
    assert found.text_bytes == 15
    assert found.tokens == sum(
        len(keras.tokenizer.encode(text)) + 1 for text in ("the king", "the hen")
    )


def test_progress_is_reported_for_every_token(keras: KerasModel, exact_model: DeviceModel) -> None:
    """The last count is the total."""
    progress = Recorded()
    evaluate(
        keras, exact_model.runtime, ["the king and the hen"], most_tokens=12, progress=progress
    )
    assert progress.counts == [(done, 12) for done in range(1, 13)]


def test_a_text_of_a_few_tokens_is_refused(keras: KerasModel, exact_model: DeviceModel) -> None:
    """The figures would mean nothing."""
    with pytest.raises(TextError, match="give more"):
        evaluate(keras, exact_model.runtime, ["a"])


def test_a_checkpoint_of_another_model_is_refused(exact_folder: Path, tmp_path: Path) -> None:
    """Its vocabulary or its sizes differ."""
    text = ["the king and the hen in the hat"]
    other = write_checkpoint(tmp_path / "other", merges=["t h", "th e"])
    with pytest.raises(CheckpointError, match="their vocabularies differ"):
        evaluate_model(str(exact_folder), str(other), text)
    longer = write_checkpoint(tmp_path / "longer")
    tensors = load_file(longer / "model.safetensors")
    tensors["wpe.weight"] = np.concatenate([tensors["wpe.weight"]] * 2)
    save_file(tensors, longer / "model.safetensors")
    config = json.loads((longer / "config.json").read_text())
    (longer / "config.json").write_text(json.dumps(config | {"n_positions": 2 * CONTEXT}))
    with pytest.raises(CheckpointError, match="their sizes differ"):
        evaluate_model(str(exact_folder), str(longer), text)


def test_the_command_prints_json(
    exact_folder: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """By default it compares the folder's device model with its own Keras weights."""
    text = tmp_path / "text.txt"
    text.write_text("the king and the hen in the hat", encoding="utf-8")
    done = run_command("evaluate", exact_folder, "--text", text, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["text_bytes"] == 31
    assert found["top1_agreement"] > 0.9
    assert abs(found["lost"]) < 1e-3
    assert found["keras"].keys() == found["device"].keys() == {"bits_per_byte", "perplexity"}


def test_a_device_model_without_keras_weights_needs_a_checkpoint(
    exact_folder: Path, tmp_path: Path, run_command: RunCommand
) -> None:
    """The message names the option."""
    alone = Path(shutil.copytree(exact_folder, tmp_path / "alone"))
    (alone / "config.json").unlink()
    text = tmp_path / "text.txt"
    text.write_text("the king and the hen in the hat", encoding="utf-8")
    done = run_command("evaluate", alone, "--text", text)
    assert done.returncode == 2
    assert "holds no Keras model" in done.stderr
    assert "--checkpoint" in done.stderr
