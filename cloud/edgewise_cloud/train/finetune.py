"""Fine-tuning a pretrained GPT-2 on a user's own text."""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import read_corpus
from edgewise_cloud.keras_models.find import find_checkpoint, find_tokenizer
from edgewise_cloud.keras_models.generation_config import save_sampling
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_cloud.train.tokenized import TokenizedCorpus, require_text_for_rows
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES


def finetune(
    checkpoint: str,
    texts: list[Path],
    out: Path,
    schedule: Schedule,
    *,
    lora_rank: int | None = None,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = SILENT,
) -> None:
    """Train the GPT-2 named `checkpoint` on `texts`, and save a checkpoint in the folder `out`.

    With `lora_rank`, only a low-rank addition to the attention's query and value kernels, and their
    biases, are trained (LoRA, arXiv:2106.09685), and merged before saving. The sampling settings
    that the checkpoint recommends are kept. Interruption is as in pretrain(). Raises
    CheckpointError for a model that cannot be loaded, TextError, and TrainingError; then nothing
    has been written.
    """
    progress.step("reading the text")
    corpus = read_corpus(texts, schedule.held_out, schedule.seed)
    plan = {
        "checkpoint": checkpoint,
        "lora_rank": lora_rank,
        "schedule": schedule.plan(),
        "text": corpus.fingerprint,
    }
    state = TrainingState.open(out, plan, resume=resume)
    folder = find_checkpoint(checkpoint)
    if known := folder and find_tokenizer(folder):
        tokenizer, window = known
        require_text_for_rows(corpus, tokenizer, min(schedule.row, window))
    import_tensorflow(progress)
    import keras

    from edgewise_cloud.keras_models.checkpoint import save_checkpoint
    from edgewise_cloud.keras_models.load import load_keras
    from edgewise_cloud.train.loop import fit
    from edgewise_cloud.train.optimizers import adamw

    keras.utils.set_random_seed(schedule.seed)
    progress.step(f"reading {checkpoint}")
    with tempfile.TemporaryDirectory() as workspace:
        model = load_keras(checkpoint, Path(workspace), dtype=schedule.dtype)
        progress.step("tokenizing the text")
        tokens = TokenizedCorpus.of(corpus, model.tokenizer)
        tokens.require_rows(min(schedule.row, model.architecture.context_window))
        with state.write_errors():  # not before all checks have passed
            state.make_folder()
            for name in TOKENIZER_FILES:
                shutil.copy(Path(workspace) / name, out / name)
            save_sampling(model.sampling, out)
            corpus.write_held_out(out)
    report(f"{len(tokens.train):,} tokens to train on, {len(tokens.held_out):,} held out")
    if lora_rank:
        model.backbone.enable_lora(lora_rank)
    fit(
        model.backbone,
        adamw(schedule),
        model.tokenizer,
        [tokens],
        schedule,
        state,
        report,
        progress,
    )
    # Keras returns a kernel with LoRA as the sum of both, so saving merges them.
    progress.step("saving the model")
    with state.write_errors():
        save_checkpoint(model.backbone, out, dtype="float32")
