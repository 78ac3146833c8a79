"""How well a GPT-2 predicts a text, in Keras and on the device, and how closely both agree."""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.corpus import tokenized
from edgewise_cloud.errors import CheckpointError, TextError
from edgewise_cloud.keras_models.load import KerasModel, load_keras
from edgewise_edge.model import DeviceModel
from edgewise_edge.runtime.session import Runtime

# From "The Tale of the Fisherman and his Wife" (Grimm, translated by Margaret Hunt, 1884).
PASSAGE = (
    "There was once upon a time a fisherman who lived with his wife in a miserable hovel close by "
    "the sea, and every day he went out fishing. And once as he was sitting with his rod, looking "
    "at the clear water, his line suddenly went down, far down below, and when he drew it up "
    "again, he brought out a large flounder. Then the flounder said to him, 'Hark, you fisherman, "
    "I pray you, let me live, I am no flounder really, but an enchanted prince. What good will it "
    "do you to kill me? I should not be good to eat, put me in the water again, and let me go.'"
)
FEWEST_TOKENS = 8


def _silent(_done: int, _total: int) -> None:
    """No progress to show."""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well one side predicts a text."""

    bits_per_byte: float
    perplexity: float  # per token


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Both sides over the same text."""

    text_bytes: int
    tokens: int
    keras: Quality
    device: Quality
    top1_agreement: float  # share of positions where both find the same token likeliest
    largest_logit_difference: float
    logit_difference: float  # root of the mean square
    logit_spread: float  # standard deviation of the Keras logits, to judge the difference by

    @property
    def lost(self) -> float:
        """By what share the device needs more bits than Keras."""
        return self.device.bits_per_byte / self.keras.bits_per_byte - 1

    def as_dict(self) -> dict[str, Any]:
        """For a manifest, or as JSON."""
        return asdict(self) | {"lost": self.lost}


@dataclass(slots=True)
class _Sums:
    keras_nats: float = 0.0
    device_nats: float = 0.0
    agreed: int = 0
    largest: float = 0.0
    squares: float = 0.0
    variance: float = 0.0

    def add(self, keras: NDArray[np.float32], device: NDArray[np.float32], next_token: int) -> None:
        """Count one position by both sides' logits (vocabulary,)."""
        self.keras_nats += _nats(keras, next_token)
        self.device_nats += _nats(device, next_token)
        self.agreed += int(keras.argmax() == device.argmax())
        difference = np.abs(keras - device)
        self.largest = float(np.maximum(self.largest, difference.max()))  # a NaN stays one
        self.squares += float(np.square(difference).mean())
        self.variance += float(keras.var())


def evaluate_model(
    model: str,
    keras_source: str,
    documents: list[str],
    most_tokens: int | None = None,
    progress: Callable[[int, int], None] = _silent,
) -> Evaluation:
    """Compare the device model that `model` names with the Keras model that `keras_source` names.

    Raises CheckpointError where they do not belong together, TextError, and what loading raises.
    """
    device = DeviceModel.load(model)
    try:
        with tempfile.TemporaryDirectory() as workspace:
            keras = load_keras(keras_source, Path(workspace))
    except CheckpointError as error:
        raise CheckpointError(f"{error}; name the model it was made from with --keras") from error
    manifest = device.manifest
    for what, ours, theirs in (
        ("vocabularies", manifest.vocabulary, keras.tokenizer.fingerprint),
        ("sizes", manifest.architecture, keras.architecture),
    ):
        if ours != theirs:
            raise CheckpointError(f"{model} was not made from {keras_source}: their {what} differ")
    return evaluate(keras, device.runtime, documents, most_tokens=most_tokens, progress=progress)


def evaluate(
    model: KerasModel,
    runtime: Runtime,
    documents: list[str],
    *,
    most_tokens: int | None = None,
    progress: Callable[[int, int], None] = _silent,
) -> Evaluation:
    """Let both sides predict every token of `documents`, at most the first `most_tokens`.

    The text is read in windows that overlap by half, so that each token but those at the very
    start is predicted from at least half a context window. The device reads the first half of a
    window in prefill's chunks and the rest token by token, as it does when it writes. `progress` is
    told the tokens done and the tokens in all. Raises TextError for a text of a few tokens.
    """
    # A text begins after the end of another one, as in training.
    start = sorted(model.tokenizer.end_ids)[:1]
    tokens = np.array([*start, *tokenized(documents, model.tokenizer)[:most_tokens]], np.int32)
    if len(tokens) < FEWEST_TOKENS:
        raise TextError(f"the text to judge by has fewer than {FEWEST_TOKENS} tokens; give more")
    sums = _Sums()
    for keras, device, position in _both(model, runtime, tokens):
        sums.add(keras, device, int(tokens[position + 1]))
        progress(position + 1, len(tokens) - 1)
    return _evaluation(sums, len(tokens) - 1, _bytes(model, tokens[1:]))


def _both(
    model: KerasModel, runtime: Runtime, tokens: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], int]]:
    """The logits of Keras and of the device at each position but the last."""
    window = model.architecture.context_window
    # Of a text shorter than a window, too, a half is read by prefill.
    half = max(1, min(window, len(tokens)) // 2)
    for scored in range(0, len(tokens) - 1, half):
        begin = max(0, scored - (window - half))
        end = min(scored + half, len(tokens) - 1)
        keras = _keras_logits(model, tokens[begin:end], scored - begin)
        session = runtime.session()
        for chunk in range(begin, scored, runtime.chunk):
            session.read(tokens[chunk : min(chunk + runtime.chunk, scored)].tolist())
        for position in range(scored, end):
            yield keras[position - scored], session.read([int(tokens[position])]), position


def _keras_logits(model: KerasModel, tokens: NDArray[np.int32], first: int) -> NDArray[np.float32]:
    """Keras's logits (positions, vocabulary) from position `first` on."""
    ids = tokens[None]
    hidden = model.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = model.backbone.token_embedding(hidden[:, first:], reverse=True)
    rows: NDArray[np.float32] = np.asarray(logits, np.float32)[0]
    return rows


def _nats(logits: NDArray[np.float32], token: int) -> float:
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum()) - logits[token])


def _bytes(model: KerasModel, tokens: NDArray[np.int32]) -> int:
    return sum(len(model.tokenizer.token_bytes(token)) for token in tokens.tolist())


def _evaluation(sums: _Sums, tokens: int, text_bytes: int) -> Evaluation:
    def quality(nats: float) -> Quality:
        # Of a broken model the exponent may be anything.
        return Quality(nats / math.log(2) / text_bytes, float(np.exp(np.float64(nats / tokens))))

    return Evaluation(
        text_bytes=text_bytes,
        tokens=tokens,
        keras=quality(sums.keras_nats),
        device=quality(sums.device_nats),
        top1_agreement=sums.agreed / tokens,
        largest_logit_difference=sums.largest,
        logit_difference=math.sqrt(sums.squares / tokens),
        logit_spread=math.sqrt(sums.variance / tokens),
    )
