"""The training loop: Keras's fit() in rounds, a checkpoint after each, a preview after some."""

import math
from collections.abc import Callable, Sequence

import keras
from keras_hub.models import GPT2Backbone

from edgewise_cloud.console import Progress
from edgewise_cloud.errors import TrainingFailedError
from edgewise_cloud.train.data import RandomRows
from edgewise_cloud.train.distillation import Distilled
from edgewise_cloud.train.preview import report_preview
from edgewise_cloud.train.progress import TrainingProgress
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_cloud.train.tokenized import TokenizedCorpus
from edgewise_edge.decoding.tokenizer import Tokenizer

PREVIEW_EVERY = 5  # rounds


def fit(
    backbone: GPT2Backbone,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    corpora: Sequence[TokenizedCorpus],
    schedule: Schedule,
    state: TrainingState,
    report: Callable[[str], None],
    progress: Progress,
    teacher: GPT2Backbone | None = None,
) -> None:
    """Train the trainable weights of `backbone`, continuing from the checkpoint in `state`, if any.

    There is a corpus for each phase of the schedule, with enough tokens for a row. With a `teacher`,
    its predictions are learned from as well as the text. Raises TrainingFailedError where the loss
    diverges or a checkpoint cannot be written.
    """
    row = schedule.shortest_row(backbone.max_sequence_length)
    model = compiled(backbone, optimizer, teacher, bfloat16=schedule.bfloat16)
    steps_done = state.restore(model)
    if steps_done:
        report(f"resuming after step {steps_done:,}")
    first_round = -(-steps_done // schedule.round_steps)
    shown = TrainingProgress(schedule, first_round, report, progress)
    compiled_length = 0
    for round_ in range(first_round, schedule.rounds):
        corpus = corpora[schedule.phase(round_)]
        window = min(backbone.max_sequence_length, len(corpus.train) - 1)
        length = schedule.row_length(round_, window)
        compiling = length != compiled_length
        progress.step("compiling the training step" if compiling else shown.activity(round_))
        compiled_length = length
        rows = max(1, schedule.batch_tokens // length)
        shown.step_tokens = rows * length
        steps = schedule.steps_in_round(round_)
        history = model.fit(
            RandomRows(corpus.train, length, rows, steps, schedule.seed, round_),
            initial_epoch=round_,
            epochs=round_ + 1,
            shuffle=False,  # it would use the process's random state, which is not saved
            verbose=0,
            callbacks=[shown],
        )
        loss = history.history["loss"][-1]
        if not math.isfinite(loss):
            raise TrainingFailedError(
                f"the loss is no longer a number after step {int(optimizer.iterations):,}; give "
                "a new folder and a lower --learning-rate"
            )
        last = round_ + 1 == schedule.rounds
        if last:
            progress.step("saving a checkpoint")
        state.save(model)
        shown.report_round(round_, loss)
        if round_ % PREVIEW_EVERY == PREVIEW_EVERY - 1 or last:
            report_preview(
                model,
                tokenizer,
                corpora,
                row=row,
                batch_tokens=schedule.batch_tokens,
                window=window,
                report=report,
                progress=progress,
            )


def compiled(
    backbone: GPT2Backbone,
    optimizer: keras.optimizers.Optimizer,
    teacher: GPT2Backbone | None = None,
    *,
    bfloat16: bool,
) -> keras.Model:
    """A model from token ids to logits, ready for fit().

    A plain keras.Model: GPT2CausalLM's own fit() accepts only whole arrays.
    """
    logits = backbone.token_embedding(backbone.output, reverse=True)
    if teacher:
        model = Distilled(backbone.input, logits, teacher)
    else:
        model = keras.Model(backbone.input, logits)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # On a CPU, XLA fuses ops that TensorFlow runs separately, but its bfloat16 product is slow.
        jit_compile="auto" if bfloat16 else True,
    )
    return model
