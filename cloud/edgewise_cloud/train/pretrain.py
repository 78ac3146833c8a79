"""Training a GPT-2 and its vocabulary from scratch, or on from a checkpoint."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import HELD_OUT_FILE, HELD_OUT_THEN_FILE, Corpus, read_corpus
from edgewise_cloud.errors import TrainingError
from edgewise_cloud.keras_models.find import find_checkpoint, find_tokenizer
from edgewise_cloud.keras_models.generation_config import save_sampling
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_cloud.train.model_size import ModelSize
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_cloud.train.start import loaded_model, new_model
from edgewise_cloud.train.tokenized import TokenizedCorpus, require_text_for_rows
from edgewise_edge.decoding.tokenizer import TOKENIZER_FILES, Tokenizer

TEXTS = ("the text", "the text of --then")  # what messages call those of the phases


def pretrain(
    texts: list[Path],
    out: Path,
    size: ModelSize,
    schedule: Schedule,
    *,
    then: Sequence[Path] = (),
    checkpoint: str | None = None,
    resume: bool = False,
    report: Callable[[str], None] = print,
    progress: Progress = SILENT,
) -> None:
    """Train on `texts`, and save a checkpoint and its vocabulary in the folder `out`.

    The last steps, by the schedule's `then_share`, read the texts `then` instead, while the learning
    rate falls to zero. The vocabulary is learned from both, and of each a share is held out, from the
    other one too. With `checkpoint`, the weights, sizes and vocabulary of that GPT-2 are the start,
    `size` and the schedule's `row` are not used, and the sampling that it recommends is kept.

    After each round, `out/training` holds what it takes to resume; a training that was interrupted
    and resumed ends with the same weights as one that was not. Raises TextError for text that is
    missing, empty, not UTF-8 or too short, and TrainingError for a folder that holds another
    training or cannot be written to, a width that is no multiple of the heads, or `then` without a
    share of the steps, and CheckpointError for a checkpoint that cannot be loaded; then nothing has
    been written.
    """
    if checkpoint is not None:  # short rows would cost it what it knows of later positions
        schedule = replace(schedule, row=None)
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
        "size": asdict(size) if checkpoint is None else None,
        "checkpoint": checkpoint,
        "schedule": schedule.plan(),
        **dict(zip(("text", "then"), fingerprints, strict=False)),
    }
    state = TrainingState.open(out, plan, resume=resume)
    if checkpoint is not None:
        _check_checkpoint(checkpoint, corpora, schedule)
    with tempfile.TemporaryDirectory() as workspace:
        vocabulary = out if state.saved and checkpoint is None else Path(workspace)
        if checkpoint is None:
            with state.write_errors():
                start = new_model(
                    corpora, size, schedule, vocabulary, learn=not state.saved, progress=progress
                )
        else:
            start = loaded_model(checkpoint, schedule, vocabulary, progress)
            if state.saved:  # the name may stand for another model by now
                start = replace(start, tokenizer=Tokenizer.from_folder(out))
        progress.step("tokenizing the text")
        tokens = [TokenizedCorpus.of(corpus, start.tokenizer) for corpus in corpora]
        for one, name in zip(tokens, TEXTS, strict=False):
            one.require_rows(schedule.shortest_row(start.context_window), name)
        with state.write_errors():  # not before all checks have passed
            state.make_folder()
            if not state.saved:
                for name in TOKENIZER_FILES:
                    shutil.copy(vocabulary / name, out / name)
                save_sampling(start.sampling, out)
            for corpus, name in zip(corpora, (HELD_OUT_FILE, HELD_OUT_THEN_FILE), strict=False):
                corpus.write_held_out(out, name)
    _report_phases(tokens, schedule, report)
    import_tensorflow(progress)
    from edgewise_cloud.keras_models.checkpoint import save_checkpoint
    from edgewise_cloud.train.loop import fit
    from edgewise_cloud.train.optimizers import muon

    backbone = start.backbone()
    with state.locked():
        fit(backbone, muon(schedule), start.tokenizer, tokens, schedule, state, report, progress)
        progress.step("saving the model")
        with state.write_errors():
            save_checkpoint(backbone, out, dtype="float16")


def _check_phases(then: Sequence[Path], schedule: Schedule) -> None:
    """Raise TrainingError for one of the two options of a second phase without the other."""
    if then and schedule.then_share is None:
        raise TrainingError("--then is given without --then-share; give a share of the steps too")
    if schedule.then_share is not None and not then:
        raise TrainingError(
            f"--then-share is {schedule.then_share} without --then; give the text to read then"
        )


def _check_checkpoint(checkpoint: str, corpora: Sequence[Corpus], schedule: Schedule) -> None:
    """Raise what can be known before TensorFlow is imported: CheckpointError, TextError."""
    folder = find_checkpoint(checkpoint)
    if known := folder and find_tokenizer(folder):
        tokenizer, window = known
        for corpus, name in zip(corpora, TEXTS, strict=False):
            require_text_for_rows(corpus, tokenizer, schedule.shortest_row(window), name)


def _report_phases(
    tokens: Sequence[TokenizedCorpus], schedule: Schedule, report: Callable[[str], None]
) -> None:
    bounds = (0, schedule.first_phase, schedule.steps)
    for phase, corpus in enumerate(tokens):
        steps = f"steps {bounds[phase] + 1:,} to {bounds[phase + 1]:,}: " if len(tokens) > 1 else ""
        report(
            f"{steps}{len(corpus.train):,} tokens to train on, {len(corpus.held_out):,} held out"
        )
