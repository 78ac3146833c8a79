"""Training a GPT-2 and its vocabulary from scratch."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import HELD_OUT_FILE, HELD_OUT_THEN_FILE, read_corpus
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
    then: Sequence[Path] = (),
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = SILENT,
) -> None:
    """Train on `texts`, and save a checkpoint and its vocabulary in the folder `out`.

    The last steps, by the schedule's `then_share`, read the texts `then` instead, while the learning
    rate falls to zero. The vocabulary is learned from both, and of each a share is held out, from the
    other one too.

    After each round, `out/training` holds what it takes to resume; a training that was interrupted
    and resumed ends with the same weights as one that was not. Raises TextError for text that is
    missing, empty, not UTF-8 or too short, and TrainingError for a folder that holds another
    training or cannot be written to, a width that is no multiple of the heads, or `then` without a
    share of the steps; a text that is too short has left nothing in `out`.
    """
    _check_phases(then, schedule)
    if size.width % size.heads:
        raise TrainingError(
            f"a width of {size.width} is not divisible by {size.heads} heads; give a multiple"
        )
    progress.step("reading the text")
    read = [
        read_corpus(paths, schedule.held_out, schedule.seed) for paths in (texts, then) if paths
    ]
    corpora = [one.without_held_out(other for other in read if other is not one) for one in read]
    fingerprints = [corpus.fingerprint for corpus in corpora]
    plan = {
        "size": asdict(size),
        "schedule": schedule.plan(),
        **dict(zip(("text", "then"), fingerprints, strict=False)),
    }
    state = TrainingState.open(out, plan, resume=resume)
    with state.write_errors(), tempfile.TemporaryDirectory() as workspace:
        vocabulary = out if state.saved else Path(workspace)
        if not state.saved:
            from edgewise_cloud.train.vocabulary import train_vocabulary

            progress.step(f"learning a vocabulary of {size.vocabulary_size:,} tokens")
            documents = [document for corpus in corpora for document in corpus.train]
            train_vocabulary(documents, size.vocabulary_size, vocabulary)
        tokenizer = Tokenizer.from_folder(vocabulary)
        progress.step("tokenizing the text")
        tokens = [TokenizedCorpus.of(corpus, tokenizer) for corpus in corpora]
        for one, name in zip(tokens, ("the text", "the text of --then"), strict=False):
            one.require_rows(min(schedule.row, size.context_window), name)
        state.make_folder()  # not before all checks have passed
        if not state.saved:
            for name in TOKENIZER_FILES:
                shutil.copy(vocabulary / name, out / name)
        for corpus, name in zip(corpora, (HELD_OUT_FILE, HELD_OUT_THEN_FILE), strict=False):
            corpus.write_held_out(out, name)
    _report_phases(tokens, schedule, report)
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


def _check_phases(then: Sequence[Path], schedule: Schedule) -> None:
    """Raise TrainingError for one of the two options of a second phase without the other."""
    if then and not schedule.then_share:
        raise TrainingError("--then is given without --then-share; give a share of the steps too")
    if schedule.then_share and not then:
        raise TrainingError(
            f"--then-share is {schedule.then_share} without --then; give the text to read then"
        )


def _report_phases(
    tokens: Sequence[TokenizedCorpus], schedule: Schedule, report: Callable[[str], None]
) -> None:
    bounds = (0, schedule.first_phase, schedule.steps)
    for phase, corpus in enumerate(tokens):
        steps = f"steps {bounds[phase] + 1:,} to {bounds[phase + 1]:,}: " if len(tokens) > 1 else ""
        report(
            f"{steps}{len(corpus.train):,} tokens to train on, {len(corpus.held_out):,} held out"
        )
