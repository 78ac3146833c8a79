"""Training a GPT-2 and its vocabulary from scratch."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import read_corpus
from edgewise_cloud.errors import TrainingError
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_cloud.train.tokenized import TokenizedCorpus
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """The sizes of a new GPT-2."""

    vocabulary_size: int = 4096
    layers: int = 6
    width: int = 256
    heads: int = 4
    context_window: int = 512


def pretrain(
    texts: list[Path],
    out: Path,
    size: ModelSize,
    schedule: Schedule,
    *,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = SILENT,
) -> None:
    """Train on `texts`, and save a checkpoint and its vocabulary in the folder `out`.

    After each round, `out/training` holds what it takes to resume; a training that was interrupted
    and resumed ends with the same weights as one that was not. Raises TextError for text that is
    missing, empty, not UTF-8 or too short, and TrainingError for a folder that holds another
    training or cannot be written to, or a width that is no multiple of the heads; a text that is
    too short has left nothing in `out`.
    """
    if size.width % size.heads:
        raise TrainingError(
            f"a width of {size.width} is not divisible by {size.heads} heads; give a multiple"
        )
    progress.step("reading the text")
    corpus = read_corpus(texts, schedule.held_out, schedule.seed)
    plan = {"size": asdict(size), "schedule": asdict(schedule), "text": corpus.fingerprint}
    state = TrainingState.open(out, plan, resume=resume)
    with state.write_errors(), tempfile.TemporaryDirectory() as workspace:
        vocabulary = out if state.saved else Path(workspace)
        if not state.saved:
            from edgewise_cloud.train.vocabulary import train_vocabulary

            progress.step(f"learning a vocabulary of {size.vocabulary_size:,} tokens")
            train_vocabulary(corpus.train, size.vocabulary_size, vocabulary)
        tokenizer = Tokenizer.from_folder(vocabulary)
        progress.step("tokenizing the text")
        tokens = TokenizedCorpus.of(corpus, tokenizer)
        tokens.require_rows(min(schedule.row, size.context_window))
        state.make_folder()  # not before all checks have passed
        if not state.saved:
            for name in TOKENIZER_FILES:
                shutil.copy(vocabulary / name, out / name)
        corpus.write_held_out(out)
    report(f"{len(tokens.train):,} tokens to train on, {len(tokens.held_out):,} held out")
    import_tensorflow(progress)
    import keras
    from keras_hub.models import GPT2Backbone

    from edgewise_cloud.keras_models.checkpoint import save_checkpoint
    from edgewise_cloud.train.loop import fit
    from edgewise_cloud.train.optimizers import muon

    keras.utils.set_random_seed(schedule.seed)
    backbone = GPT2Backbone(
        vocabulary_size=size.vocabulary_size,
        num_layers=size.layers,
        num_heads=size.heads,
        hidden_dim=size.width,
        intermediate_dim=4 * size.width,
        dropout=0.0,  # a training reads its text about twice: there is little overfitting
        max_sequence_length=size.context_window,
        dtype=schedule.dtype,
    )
    fit(backbone, muon(schedule), tokenizer, tokens, schedule, state, report, progress)
    progress.step("saving the model")
    with state.write_errors():
        save_checkpoint(backbone, out, dtype="float16")
