"""Training a GPT-2 from scratch, through Keras's own loop."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras_hub.models import GPT2Backbone

from edgewise_cloud.checkpoint import save_checkpoint
from edgewise_cloud.errors import TextError
from edgewise_cloud.vocabulary import train_vocabulary
from edgewise_edge.tokenizer import TOKENIZER_FILES, Tokenizer

STATE_FOLDER = "training"
TOKENS_FILE = "tokens.npy"
STATE_FILE = "state.weights.h5"
ROUND_FILE = "round.json"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """What to train, and for how long. Tokens seen = steps x batch_size x context_window."""

    vocabulary_size: int = 3072
    layers: int = 4
    width: int = 160
    heads: int = 5
    context_window: int = 512
    batch_size: int = 16
    steps: int = 3400
    learning_rate: float = 2.5e-3
    held_out: float = 0.01  # share of the text, its end, that is never trained on
    steps_per_round: int = 100  # between two checkpoints
    seed: int = 1


class _Windows(keras.utils.PyDataset):  # type: ignore[misc]  # Keras ships no types
    """Random windows of the text; batch `index` of a round is the same in every run."""

    def __init__(self, tokens: np.ndarray, plan: TrainingPlan, round_: int, batches: int) -> None:
        super().__init__()
        self._tokens, self._plan, self._round, self._batches = tokens, plan, round_, batches

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        plan = self._plan
        generator = np.random.default_rng((plan.seed, self._round, index))
        starts = generator.integers(
            0, len(self._tokens) - plan.context_window, size=(plan.batch_size, 1)
        )
        rows = self._tokens[starts + np.arange(plan.context_window + 1)].astype(np.int32)
        inputs = {"token_ids": rows[:, :-1], "padding_mask": np.ones_like(rows[:, :-1])}
        return inputs, rows[:, 1:]


def train(
    texts: list[Path], folder: Path, plan: TrainingPlan, report: Callable[[str], None] = print
) -> None:
    """Train on `texts` and leave a checkpoint with its vocabulary in `folder`.

    Training state is kept in `folder/training` after each round; a second call with the same
    arguments goes on from there. Raises TextError for text that is missing, not UTF-8 or too
    short for one window.
    """
    state = folder / STATE_FOLDER
    state.mkdir(parents=True, exist_ok=True)
    tokenizer, tokens = _tokenized([_read(path) for path in texts], plan, folder)
    cut = int(len(tokens) * (1 - plan.held_out))
    if len(tokens) - cut <= plan.context_window:
        raise TextError(
            f"{len(tokens):,} tokens are too few: the held-out {plan.held_out:.0%} must be longer "
            f"than one window of {plan.context_window} tokens; give more text"
        )
    report(f"{cut:,} tokens to train on, {len(tokens) - cut:,} held out")
    keras.utils.set_random_seed(plan.seed)
    backbone = _backbone(plan)
    model = _trainable(backbone, plan)
    done = _restore(model, state)
    rounds = -(-plan.steps // plan.steps_per_round)
    for round_ in range(done, rounds):
        batches = min(plan.steps_per_round, plan.steps - round_ * plan.steps_per_round)
        model.fit(
            _Windows(tokens[:cut], plan, round_, batches),
            initial_epoch=round_,
            epochs=round_ + 1,
            verbose=2,
        )
        _save(model, state, round_ + 1)
    loss = model.evaluate(_Windows(tokens[cut:], plan, rounds, 16), verbose=0)
    bytes_per_token = len(tokenizer.decode(tokens[cut:].tolist()).encode()) / (len(tokens) - cut)
    report(f"held-out loss {loss:.3f} = {loss / np.log(2) / bytes_per_token:.3f} bits per byte")
    save_checkpoint(backbone, folder, dtype="float16")


def _tokenized(texts: list[str], plan: TrainingPlan, folder: Path) -> tuple[Tokenizer, np.ndarray]:
    """The vocabulary and the texts in its ids, each text closed by the end-of-text token."""
    if all((folder / name).exists() for name in TOKENIZER_FILES):
        tokenizer = Tokenizer.from_folder(folder)
    else:
        tokenizer = train_vocabulary(texts, plan.vocabulary_size, folder)
    if tokenizer.size != plan.vocabulary_size:
        raise TextError(
            f"{folder} holds a vocabulary of {tokenizer.size} tokens, not {plan.vocabulary_size}; "
            "give another folder or that --vocabulary-size"
        )
    cache = folder / STATE_FOLDER / TOKENS_FILE
    if not cache.exists():
        ids = [[*tokenizer.encode(text), *tokenizer.end_ids] for text in texts]
        np.save(cache, np.concatenate([np.array(one, dtype=np.uint16) for one in ids]))
    tokens: np.ndarray = np.load(cache, mmap_mode="r")
    return tokenizer, tokens


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise TextError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TextError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from error


def _backbone(plan: TrainingPlan) -> GPT2Backbone:
    return GPT2Backbone(
        vocabulary_size=plan.vocabulary_size,
        num_layers=plan.layers,
        num_heads=plan.heads,
        hidden_dim=plan.width,
        intermediate_dim=4 * plan.width,
        dropout=0.0,  # less than two passes over the text: nothing to overfit
        max_sequence_length=plan.context_window,
    )


def _trainable(backbone: GPT2Backbone, plan: TrainingPlan) -> keras.Model:
    warmup = min(200, plan.steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=plan.steps - warmup,
        alpha=0.02,
        warmup_target=plan.learning_rate,
        warmup_steps=warmup,
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.1, beta_2=0.95, clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embeddings"])
    # A plain model: keras.Model's own fit() takes whole arrays only.
    logits = backbone.token_embedding(backbone.output, reverse=True)
    model = keras.Model(backbone.input, logits)
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    return model


def _save(model: keras.Model, state: Path, rounds_done: int) -> None:
    model.save_weights(state / STATE_FILE)
    (state / ROUND_FILE).write_text(json.dumps({"rounds_done": rounds_done}))


def _restore(model: keras.Model, state: Path) -> int:
    if not (state / ROUND_FILE).exists():
        return 0
    model.optimizer.build(model.trainable_variables)
    model.load_weights(state / STATE_FILE)
    return int(json.loads((state / ROUND_FILE).read_text())["rounds_done"])
