"""How closely a device model says what its Keras model says."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewise_cloud.errors import ConversionError, TextError
from edgewise_cloud.sources import KerasModel
from edgewise_edge.manifest import MODEL_FILE
from edgewise_edge.model import default_threads
from edgewise_edge.runtime import Runtime

# From "The Tale of the Fisherman and his Wife" (Grimm, translated by Margaret Hunt, 1884).
PASSAGE = (
    "There was once upon a time a fisherman who lived with his wife in a miserable hovel close by "
    "the sea, and every day he went out fishing. And once as he was sitting with his rod, looking "
    "at the clear water, his line suddenly went down, far down below, and when he drew it up "
    "again, he brought out a large flounder. Then the flounder said to him, 'Hark, you fisherman, "
    "I pray you, let me live, I am no flounder really, but an enchanted prince. What good will it "
    "do you to kill me? I should not be good to eat, put me in the water again, and let me go.'"
)
MOST_TOKENS = 256
# Float32 on two runtimes differs by rounding alone; larger differences are mistakes.
ROUNDING = 1e-3


@dataclass(frozen=True, slots=True)
class Agreement:
    """Logits of the device model against Keras, over a text read by both."""

    tokens: int
    largest_logit_difference: float
    logit_spread: float  # standard deviation of the Keras logits, to judge the difference by
    top1_agreement: float  # share of positions where both find the same token likeliest

    def as_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)

    def require(self, *, exact: bool) -> None:
        """Raise ConversionError unless the device model is the same model."""
        allowed = self.logit_spread * (ROUNDING if exact else 1.0)
        if not self.largest_logit_difference <= allowed:
            raise ConversionError(
                f"the device model's logits differ from Keras's by up to "
                f"{self.largest_logit_difference:.3g}, where {allowed:.3g} is allowed: the "
                "conversion went wrong"
            )


def measure_agreement(model: KerasModel, folder: Path, text: str | None = None) -> Agreement:
    """Read `text` (its first 256 tokens) with both and compare the logits over its second half.

    Raises TextError for a text of less than two tokens.
    """
    most = min(MOST_TOKENS, model.architecture.context_window)
    tokens = model.tokenizer.encode(text or PASSAGE)[:most]
    if len(tokens) < 2:
        raise TextError("the text to compare on has fewer than two tokens; give more")
    runtime = Runtime.load(folder / MODEL_FILE, model.architecture, default_threads())
    session = runtime.session()
    # Half of it in prefill's chunks: the compared half then reads what prefill wrote.
    half = len(tokens) // 2
    for start in range(0, half, runtime.chunk):
        session.prefill(tokens[start : min(start + runtime.chunk, half)])
    device = np.stack([session.decode(token) for token in tokens[half:]])
    keras = _keras_logits(model, tokens)[half:]
    return Agreement(
        tokens=len(device),
        largest_logit_difference=float(np.abs(device - keras).max()),
        logit_spread=float(keras.std()),
        top1_agreement=float((device.argmax(-1) == keras.argmax(-1)).mean()),
    )


def _keras_logits(model: KerasModel, tokens: list[int]) -> NDArray[np.float32]:
    """Keras's logits (tokens, vocabulary)."""
    ids = np.array([tokens], np.int32)
    hidden = model.backbone({"token_ids": ids, "padding_mask": np.ones_like(ids)})
    logits = model.backbone.token_embedding(hidden, reverse=True)
    rows: NDArray[np.float32] = np.asarray(logits, np.float32)[0]
    return rows
