"""Fine-tuning of the tiny random model on a few hundred words."""

import json
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pytest
from keras_hub.models import GPT2Backbone
from safetensors.numpy import load_file

from edgewise_cloud.corpus import HELD_OUT_FILE, read_documents, tokenized
from edgewise_cloud.errors import CheckpointError, TextError, TrainingError
from edgewise_cloud.keras_models import checkpoint as checkpoints
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_cloud.train.finetune import finetune
from edgewise_cloud.train.progress import TrainingProgress
from edgewise_cloud.train.schedule import Schedule
from tests.conftest import LAYERS, WIDTH, write_checkpoint

SCHEDULE = Schedule(
    steps=4, learning_rate=1e-2, batch_tokens=256, row=32, held_out=0.1, round_steps=2
)
RANKS = [None, 4]

pytestmark = pytest.mark.usefixtures("uncompiled")


@dataclass(frozen=True)
class Tuned:
    folder: Path
    rank: int | None
    backbone: GPT2Backbone  # in memory, when it was saved


@pytest.fixture(scope="module", params=RANKS, ids=["full", "lora"])
def tuned(
    checkpoint: Path,
    text: Path,
    uncompiled: None,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Tuned:
    """A fine-tuning that was not interrupted."""
    folder = tmp_path_factory.mktemp("tuned") / "model"
    backbones: list[GPT2Backbone] = []
    save = checkpoints.save_checkpoint

    def keep(backbone: GPT2Backbone, *arguments: object, **options: object) -> None:
        backbones.append(backbone)
        save(backbone, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save_checkpoint", keep)
        finetune(str(checkpoint), [text], folder, SCHEDULE, lora_rank=request.param, report=_silent)
    return Tuned(folder, request.param, *backbones)


def _silent(_line: str) -> None:
    pass


def logits(backbone: GPT2Backbone, ids: np.ndarray) -> np.ndarray:
    hidden = backbone({"token_ids": ids[None], "padding_mask": np.ones_like(ids[None])})
    return np.asarray(backbone.token_embedding(hidden, reverse=True))[0]


def loss(model: KerasModel, text: Path) -> float:
    """Mean loss over the first tokens of a text, in nats."""
    ids = tokenized(read_documents([text]), model.tokenizer)[:150]
    each = keras.losses.sparse_categorical_crossentropy(
        ids[1:], logits(model.backbone, ids[:-1]), from_logits=True
    )
    return float(np.mean(each))


def test_finetuning_lowers_the_held_out_loss(
    tuned: Tuned, checkpoint: Path, tmp_path: Path
) -> None:
    """And the folder can be loaded."""
    held_out = tuned.folder / HELD_OUT_FILE
    after = loss(load_keras(str(tuned.folder), tmp_path), held_out)
    before = loss(load_keras(str(checkpoint), tmp_path), held_out)
    assert after < before - 0.01


def test_the_saved_weights_are_the_trained_ones(tuned: Tuned, tmp_path: Path) -> None:
    """A LoRA is merged: the checkpoint's logits are those of the model in memory."""
    ids = np.arange(100, 140, dtype=np.int32)
    saved = load_keras(str(tuned.folder), tmp_path).backbone
    np.testing.assert_allclose(logits(saved, ids), logits(tuned.backbone, ids), rtol=0, atol=1e-4)


def test_lora_changes_only_queries_and_values(tuned: Tuned, checkpoint: Path) -> None:
    """Without LoRA, every tensor changes."""
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tuned.folder / "model.safetensors")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    if tuned.rank is None:
        assert changed == set(before)
        return
    kinds = ("weight", "bias")
    names = {f"h.{layer}.attn.c_attn.{kind}" for layer in range(LAYERS) for kind in kinds}
    assert changed == names
    for name in names:
        moved = (before[name] != after[name]).reshape(-1, 3, WIDTH).any(axis=(0, 2))
        assert moved.tolist() == [True, False, True]


def test_a_resumed_finetuning_ends_with_the_same_weights(
    tuned: Tuned,
    checkpoint: Path,
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit, also with dropout and LoRA."""
    reports: list[str] = []

    def tune(*, resume: bool) -> None:
        finetune(
            str(checkpoint),
            [text],
            tmp_path,
            SCHEDULE,
            lora_rank=tuned.rank,
            resume=resume,
            report=reports.append,
        )

    def stop(progress: TrainingProgress, batch: int, logs: object = None) -> None:
        if "step 2/4" in reports[-1]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(TrainingProgress, "on_train_batch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            tune(resume=False)
    tune(resume=True)
    assert "resuming after step 2" in reports
    resumed, uninterrupted = (folder / "model.safetensors" for folder in (tmp_path, tuned.folder))
    assert resumed.read_bytes() == uninterrupted.read_bytes()


def test_resuming_with_another_plan_is_refused(tuned: Tuned, checkpoint: Path, text: Path) -> None:
    """The message names the LoRA rank or the model that differs."""
    rank = 3
    with pytest.raises(TrainingError, match=f"plan: lora_rank was {tuned.rank}, is 3; give"):
        finetune(str(checkpoint), [text], tuned.folder, SCHEDULE, lora_rank=rank, resume=True)
    with pytest.raises(TrainingError, match=r"plan: checkpoint was .*tiny, is tales; give"):
        finetune("tales", [text], tuned.folder, SCHEDULE, lora_rank=tuned.rank, resume=True)


def test_a_checkpoint_is_not_overwritten(checkpoint: Path, text: Path) -> None:
    """--out must not be the folder of the pretrained model."""
    with pytest.raises(TrainingError, match="is not empty"):
        finetune(str(checkpoint), [text], checkpoint, SCHEDULE)


def test_an_unusable_checkpoint_is_an_error(checkpoint: Path, text: Path, tmp_path: Path) -> None:
    """The message says why, and --out can be used for another attempt."""
    bare, other, mixed = (write_checkpoint(tmp_path / name) for name in ("bare", "other", "mixed"))
    (bare / "model.safetensors").unlink()
    (other / "config.json").write_text('{"model_type": "llama"}')
    ids = json.loads((mixed / "vocab.json").read_text())
    (mixed / "vocab.json").write_text(json.dumps(ids | {"extra": len(ids)}))
    cases = {
        "no-such-preset": "no GPT-2 preset",
        str(tmp_path): "holds no Keras model",
        str(bare): "has no model.safetensors",
        str(other): "model_type is 'llama'",
        str(mixed): "do not belong together",
    }
    out = tmp_path / "out"
    for preset, message in cases.items():
        with pytest.raises(CheckpointError, match=message):
            finetune(preset, [text], out, SCHEDULE)
    schedule = Schedule(steps=1, learning_rate=1e-2, batch_tokens=32, row=32, held_out=0.1)
    finetune(str(checkpoint), [text], out, schedule, report=_silent)
    assert (out / "model.safetensors").exists()


def test_a_text_shorter_than_a_row_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    """And nothing is written."""
    text = tmp_path / "text.txt"
    text.write_text("the cat", encoding="utf-8")
    with pytest.raises(TextError, match="one row takes 33"):
        finetune(str(checkpoint), [text], tmp_path / "out", SCHEDULE, report=_silent)
    assert not (tmp_path / "out").exists()
