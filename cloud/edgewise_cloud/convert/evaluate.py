"""How well a GPT-2 predicts a text, in Keras and on the device, and how closely they agree."""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.console import SILENT, Progress
from edgewise_cloud.corpus import tokenized
from edgewise_cloud.errors import CheckpointError, TextError
from edgewise_cloud.keras_models.find import find_checkpoint
from edgewise_cloud.keras_models.import_tensorflow import import_tensorflow
from edgewise_edge.model import DeviceModel
from edgewise_edge.runtime.session import Runtime

if TYPE_CHECKING:  # it imports TensorFlow
    from edgewise_cloud.keras_models.load import KerasModel

# From "The Fisherman and his Wife" (Grimm, after Margaret Hunt's translation of 1884).
PASSAGE = Path(__file__).with_name("passage.txt").read_text(encoding="utf-8")
MIN_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Scores:
    """How well one model predicts a text."""

    bits_per_byte: float
    perplexity: float  # per token


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The Keras model and the device model over the same text."""

    text_bytes: int
    tokens: int
    keras: Scores
    device: Scores
    top1_agreement: float  # share of positions where both find the same token likeliest
    largest_logit_difference: float
    logit_difference: float  # root mean square
    logit_spread: float  # standard deviation of the Keras logits, to compare the difference with

    @property
    def bits_increase(self) -> float:
        """The bits the device needs more than Keras, as a share of Keras's."""
        return self.device.bits_per_byte / self.keras.bits_per_byte - 1

    def as_dict(self) -> dict[str, Any]:
        """For a manifest, or as JSON."""
        return asdict(self) | {"lost": self.bits_increase}


@dataclass(slots=True)
class _Totals:
    keras_nats: float = 0.0
    device_nats: float = 0.0
    agreed: int = 0
    largest: float = 0.0
    squares: float = 0.0
    variance: float = 0.0

    def add(self, keras: NDArray[np.float32], device: NDArray[np.float32], next_token: int) -> None:
        """Add one position, given both models' logits (vocabulary,)."""
        self.keras_nats += _nats(keras, next_token)
        self.device_nats += _nats(device, next_token)
        self.agreed += int(keras.argmax() == device.argmax())
        difference = np.abs(keras - device)
        self.largest = float(np.maximum(self.largest, difference.max()))  # NaN propagates
        self.squares += float(np.square(difference).mean())
        self.variance += float(keras.var())


def evaluate_model(
    model: str,
    checkpoint: str,
    documents: list[str],
    most_tokens: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Compare the device model `model` with the Keras model `checkpoint`, both given by name.

    Raises CheckpointError where the two do not belong together, TextError, and what loading raises.
    """
    device = DeviceModel.load(model)
    keras = _keras_model(checkpoint, progress)
    manifest = device.manifest
    for what, ours, theirs in (
        ("vocabularies", manifest.vocabulary, keras.tokenizer.fingerprint),
        ("sizes", manifest.architecture, keras.architecture),
    ):
        if ours != theirs:
            raise CheckpointError(f"{model} was not made from {checkpoint}: their {what} differ")
    return evaluate(keras, device.runtime, documents, most_tokens=most_tokens, progress=progress)


def _keras_model(checkpoint: str, progress: Progress) -> "KerasModel":
    try:
        find_checkpoint(checkpoint)  # before TensorFlow is imported
        import_tensorflow(progress)
        from edgewise_cloud.keras_models.load import load_keras

        progress.step(f"reading {checkpoint}")
        with tempfile.TemporaryDirectory() as workspace:
            return load_keras(checkpoint, Path(workspace))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}; name the model it was made from with --checkpoint"
        ) from error


def evaluate(
    model: "KerasModel",
    runtime: Runtime,
    documents: list[str],
    *,
    most_tokens: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Predict every token of `documents`, or only the first `most_tokens`, with both models.

    The text is read in windows that overlap by half, so that each token but those at the very
    start is predicted from at least half a context window. The device reads the first half of a
    window by prefill, in chunks, and the rest by decode, as when it generates. Raises TextError for
    a text of a few tokens.
    """
    # As in training, a text begins after the end of another one.
    start = sorted(model.tokenizer.end_ids)[:1]
    tokens = np.array([*start, *tokenized(documents, model.tokenizer)[:most_tokens]], np.int32)
    if len(tokens) < MIN_TOKENS:
        raise TextError(f"the text to evaluate on has fewer than {MIN_TOKENS} tokens; give more")
    progress.step("predicting tokens")
    totals = _Totals()
    for keras, device, position in _logit_pairs(model, runtime, tokens):
        totals.add(keras, device, int(tokens[position + 1]))
        progress.count(position + 1, len(tokens) - 1)
    return _evaluation(totals, len(tokens) - 1, _byte_count(model, tokens[1:]))


def _logit_pairs(
    model: "KerasModel", runtime: Runtime, tokens: NDArray[np.int32]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32], int]]:
    """The logits of Keras and of the device at each position but the last."""
    window = model.architecture.context_window
    # Prefill reads a half of a text that is shorter than a window, too.
    half = max(1, min(window, len(tokens)) // 2)
    for scored in range(0, len(tokens) - 1, half):
        begin = max(0, scored - (window - half))
        end = min(scored + half, len(tokens) - 1)
        keras = keras_logits(model, tokens[begin:end], scored - begin)
        session = runtime.session()
        for chunk in range(begin, scored, runtime.chunk):
            session.forward(tokens[chunk : min(chunk + runtime.chunk, scored)].tolist())
        for position in range(scored, end):
            yield keras[position - scored], session.forward([int(tokens[position])]), position


def keras_logits(model: "KerasModel", tokens: NDArray[np.int32], first: int) -> NDArray[np.float32]:
    """Keras's logits (positions, vocabulary) from position `first` on."""
    ids = tokens[None]
    hidden = model.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = model.backbone.token_embedding(hidden[:, first:], reverse=True)
    rows: NDArray[np.float32] = np.asarray(logits, np.float32)[0]
    return rows


def _nats(logits: NDArray[np.float32], token: int) -> float:
    largest = logits.max()
    return float(largest + np.log(np.exp(logits - largest).sum()) - logits[token])


def _byte_count(model: "KerasModel", tokens: NDArray[np.int32]) -> int:
    return sum(len(model.tokenizer.token_bytes(token)) for token in tokens.tolist())


def _evaluation(totals: _Totals, tokens: int, text_bytes: int) -> Evaluation:
    def scores(nats: float) -> Scores:
        # NumPy's exp: a broken model's perplexity may overflow to infinity.
        return Scores(nats / math.log(2) / text_bytes, float(np.exp(np.float64(nats / tokens))))

    return Evaluation(
        text_bytes=text_bytes,
        tokens=tokens,
        keras=scores(totals.keras_nats),
        device=scores(totals.device_nats),
        top1_agreement=totals.agreed / tokens,
        largest_logit_difference=totals.largest,
        logit_difference=math.sqrt(totals.squares / tokens),
        logit_spread=math.sqrt(totals.variance / tokens),
    )
