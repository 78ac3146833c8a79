"""Keras's training loop in rounds: progress, checkpoints, and an early look at what comes out."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
from keras_hub.models import GPT2Backbone

from edgewise_cloud.corpus import Corpus, tokenized
from edgewise_cloud.errors import TextError, TrainingError
from edgewise_cloud.train.progress import Progress
from edgewise_cloud.train.resume import TrainingState
from edgewise_cloud.train.schedule import Schedule
from edgewise_edge.decoding.sampling import SamplingParams, sample
from edgewise_edge.decoding.tokenizer import Tokenizer

LOOK_EVERY = 5  # rounds
LOOK_PROMPT = "Once upon a time"
LOOK_TOKENS = 60
HELD_OUT_ROWS = 32  # for a quick look at the loss; `edgewise-cloud evaluate` reads all


@dataclass(frozen=True, slots=True)
class Tokens:
    """What there is to read: ids int32 [tokens], and the bytes a held-out token stands for."""

    train: np.ndarray
    held_out: np.ndarray
    held_out_bytes: int

    @classmethod
    def of(cls, corpus: Corpus, tokenizer: Tokenizer) -> "Tokens":
        """Both parts of the corpus as ids."""
        return cls(
            train=tokenized(corpus.train, tokenizer),
            held_out=tokenized(corpus.held_out, tokenizer),
            held_out_bytes=sum(len(text.encode()) for text in corpus.held_out),
        )

    def require_rows(self, row: int) -> None:
        """Raise TextError where there are fewer tokens than a row of `row` needs."""
        if len(self.train) <= row or len(self.held_out) < 2:
            raise TextError(
                f"the text is too short: {len(self.train):,} tokens to train on, where one row "
                f"takes {row + 1}, and {len(self.held_out):,} held out; give more text, or hold out more"
            )


class _Rows(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Random rows of the text; batch `index` of a round is the same in every run."""

    def __init__(self, tokens: np.ndarray, row: int, rows: int, batches: int, *key: int) -> None:
        super().__init__()
        self._tokens, self._row, self._rows, self._batches = tokens, row, rows, batches
        self._key = key

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        generator = np.random.default_rng((*self._key, index))
        starts = generator.integers(0, len(self._tokens) - self._row, size=(self._rows, 1))
        rows = self._tokens[starts + np.arange(self._row + 1)]
        inputs = {"token_ids": rows[:, :-1], "padding_mask": np.ones_like(rows[:, :-1])}
        return inputs, rows[:, 1:]


def fit(
    backbone: GPT2Backbone,
    optimizer: keras.optimizers.Optimizer,
    tokenizer: Tokenizer,
    tokens: Tokens,
    schedule: Schedule,
    state: TrainingState,
    report: Callable[[str], None],
) -> None:
    """Train what is trainable of `backbone`, going on from the checkpoint in `state`, if any.

    Raises TextError for a text shorter than one row, TrainingError where the loss diverges or a
    checkpoint cannot be written.
    """
    row = min(schedule.row, backbone.max_sequence_length)
    tokens.require_rows(row)
    window = min(backbone.max_sequence_length, len(tokens.train) - 1)
    model = compiled(backbone, optimizer, bfloat16=schedule.bfloat16)
    done = state.restore(model)
    if done:
        report(f"going on after step {done:,}")
    begun = -(-done // schedule.round_steps)
    with Progress(schedule, begun, report) as progress:
        for round_ in range(begun, schedule.rounds):
            length = schedule.row_in(round_, window)
            rows = max(1, schedule.batch_tokens // length)
            progress.step_tokens = rows * length
            history = model.fit(
                _Rows(tokens.train, length, rows, schedule.steps_in(round_), schedule.seed, round_),
                initial_epoch=round_,
                epochs=round_ + 1,
                shuffle=False,  # by the process's random state, which a checkpoint does not hold
                verbose=0,
                callbacks=[progress],
            )
            loss = history.history["loss"][-1]
            if not math.isfinite(loss):
                raise TrainingError(
                    f"the loss is no longer a number after step {int(optimizer.iterations):,}; give "
                    "a new folder and a lower --learning-rate"
                )
            state.save(model)
            progress.report_round(round_, loss)
            if round_ % LOOK_EVERY == LOOK_EVERY - 1 or round_ + 1 == schedule.rounds:
                report(_look(model, tokens, min(row, len(tokens.held_out) - 1)))
                report(f"  {_continuation(model, tokenizer, window)}")


def compiled(
    backbone: GPT2Backbone, optimizer: keras.optimizers.Optimizer, *, bfloat16: bool
) -> keras.Model:
    """A model from token ids to logits, ready for `fit`.

    A plain model: GPT2CausalLM's own fit() takes whole arrays only.
    """
    model = keras.Model(backbone.input, backbone.token_embedding(backbone.output, reverse=True))
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        # On a CPU, XLA fuses what TensorFlow runs apart, but has no fast bfloat16 product.
        jit_compile="auto" if bfloat16 else True,
    )
    return model


def _look(model: keras.Model, tokens: Tokens, row: int) -> str:
    rows = _Rows(tokens.held_out, row, 8, HELD_OUT_ROWS // 8, 0)
    loss = model.evaluate(rows, verbose=0)
    bits = loss / math.log(2) * len(tokens.held_out) / tokens.held_out_bytes
    return f"held-out loss {loss:.3f}, {bits:.3f} bits per byte"


def _continuation(model: keras.Model, tokenizer: Tokenizer, window: int) -> str:
    """What the model writes now: without a cache, since it is a look and no more."""
    ids = tokenizer.encode(LOOK_PROMPT)[: window // 2]
    end = min(len(ids) + LOOK_TOKENS, window)
    params = SamplingParams(temperature=0.7, top_k=40, seed=1)
    padded = np.zeros((1, end), np.int32)
    mask = np.ones_like(padded)
    for position in range(len(ids), end):
        padded[0, : len(ids)] = ids
        logits = model.predict_on_batch({"token_ids": padded, "padding_mask": mask})
        ids.append(sample(np.asarray(logits[0, position - 1], np.float32), params, (), position))
        if ids[-1] in tokenizer.end_ids:
            break
    return " ".join(tokenizer.decode(ids).split())
