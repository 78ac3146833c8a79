"""Fine-tuning a pretrained GPT-2 on a user's own text."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import read_corpus
from edgewise_cloud.keras_models.find import find_checkpoint, find_tokenizer
from edgewise_cloud.keras_models.generation_config import save_sampling
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_cloud.train.tokenized import TokenizedCorpus, require_text_for_rows
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer

if TYPE_CHECKING:  # TensorFlow is imported when the text has been checked
    from keras_hub.models import GPT2Backbone

    from edgewise_cloud.keras_models.load import KerasModel


def finetune(
    checkpoint: str,
    texts: list[Path],
    out: Path,
    schedule: Schedule,
    *,
    lora_rank: int | None = None,
    layers: int | None = None,
    teacher: str | None = None,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = SILENT,
) -> None:
    """Train the GPT-2 named `checkpoint` on `texts`, and save a checkpoint in the folder `out`.

    With `lora_rank`, only a low-rank addition to the attention's query and value kernels, and their
    biases, are trained (LoRA, arXiv:2106.09685), and merged before saving. With `layers`,
    the model begins with as many of the checkpoint's, evenly spaced; with `teacher`, half of the
    loss is the divergence from the predictions of that GPT-2, of the same vocabulary (distillation).
    The sampling settings that the checkpoint recommends are kept. Interruption is as in pretrain().
    Raises CheckpointError for a model that cannot be loaded, TextError, and TrainingError; then
    nothing has been written.
    """
    progress.step("reading the text")
    corpus = read_corpus(texts, schedule.held_out, schedule.seed)
    plan = {
        "checkpoint": checkpoint,
        "lora_rank": lora_rank,
        "layers": layers,
        "teacher": teacher,
        "schedule": schedule.plan(),
        "text": corpus.fingerprint,
    }
    state = TrainingState.open(out, plan, resume=resume)
    if teacher is not None:
        find_checkpoint(teacher)
    folder = find_checkpoint(checkpoint)
    if known := folder and find_tokenizer(folder):
        tokenizer, window = known
        require_text_for_rows(corpus, tokenizer, schedule.shortest_row(window))
    import_tensorflow(progress)
    import keras

    from edgewise_cloud.keras_models.checkpoint import save_checkpoint
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.train.distillation import with_layers
    from edgewise_cloud.train.loop import fit
    from edgewise_cloud.train.optimizers import adamw

    keras.utils.set_random_seed(schedule.seed)
    progress.step(f"reading {checkpoint}")
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(checkpoint, Path(workspace), dtype=schedule.dtype)
        if layers is not None:  # and the others are freed
            model = replace(model, backbone=with_layers(model.backbone, layers))
        if state.saved:  # the name may stand for another model by now
            model = replace(model, tokenizer=Tokenizer.from_folder(out))
        taught_by = None if teacher is None else _teacher(teacher, model, schedule, progress)
        progress.step("tokenizing the text")
        tokens = TokenizedCorpus.of(corpus, model.tokenizer)
        tokens.require_rows(schedule.shortest_row(model.architecture.context_window))
        with state.write_errors():  # not before all checks have passed
            state.make_folder()
            if not state.saved:
                for name in TOKENIZER_FILES:
                    shutil.copy(Path(workspace) / name, out / name)
                save_sampling(model.sampling, out)
            corpus.write_held_out(out)
    report(f"{len(tokens.train):,} tokens to train on, {len(tokens.held_out):,} held out")
    if lora_rank:
        model.backbone.enable_lora(lora_rank)
    with state.locked():
        fit(
            model.backbone,
            adamw(schedule),
            model.tokenizer,
            [tokens],
            schedule,
            state,
            report,
            progress,
            taught_by,
        )
        # Keras returns a kernel with LoRA as the sum of both, so saving merges them.
        progress.step("saving the model")
        with state.write_errors():
            save_checkpoint(model.backbone, out, dtype="float32")


def _teacher(
    checkpoint: str, student: "KerasModel", schedule: Schedule, progress: Progress
) -> "GPT2Backbone":
    """The GPT-2 to learn from. Raises CheckpointError, and TrainingError if it does not fit."""
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.train.distillation import require_teachable

    progress.step(f"reading the teacher, {checkpoint}")
    with tempfile.TemporaryDirectory() as workspace:
        teacher = load_keras(checkpoint, Path(workspace), dtype=schedule.dtype)
    require_teachable(teacher, student)
    return teacher.backbone
