"""The agreement gate: whether a model does on this device what its publisher measured."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgewise_edge.errors import ModelIncompatibleError, ModelRefusedError
from edgewise_edge.installed.evaluation import Evaluation, Window
from edgewise_edge.runtime.session import Runtime


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a model did. `bits_per_byte` is infinite where it gave NaN or no chance at all."""

    top1: float  # share of tokens of which it finds the same likeliest, 0 to 1
    bits_per_byte: float
    tokens: int


def measure(runtime: Runtime, evaluation: Evaluation) -> Agreement:
    """Run the windows, a token at a time.

    Raises ModelIncompatibleError if they do not fit the model, and RuntimeFailedError.
    """
    agreed, bits = 0, 0.0
    for window in evaluation.windows:
        _check_fits(runtime, window)
        session = runtime.session()
        for index, token in enumerate(window.token_ids[:-1]):
            likeliest, cost = _judged(session.forward([token]), window.token_ids[index + 1])
            agreed += likeliest == window.top1[index]
            bits += cost
    return Agreement(agreed / evaluation.tokens, bits / evaluation.text_bytes, evaluation.tokens)


def require_agreement(runtime: Runtime, evaluation: Evaluation, folder: Path) -> Agreement:
    """Raise ModelRefusedError if the model does worse here than its publisher allows."""
    found = measure(runtime, evaluation)
    if found.top1 < evaluation.least_top1:
        raise ModelRefusedError(
            f"{folder} agrees with its publisher on {found.top1:.1%} of {found.tokens} tokens, at "
            f"least {evaluation.least_top1:.1%} is needed; it is not used here"
        )
    if not found.bits_per_byte <= evaluation.most_bits_per_byte:
        raise ModelRefusedError(
            f"{folder} needs {found.bits_per_byte:.3f} bits per byte for its publisher's text, at "
            f"most {evaluation.most_bits_per_byte:.3f} is allowed; it is not used here"
        )
    return found


def _judged(logits: NDArray[np.float32], expected: int) -> tuple[int, float]:
    """The likeliest token (-1 if there is none), and the bits that `expected` costs."""
    scores = logits.astype(np.float64)
    if not np.isfinite(scores).all():
        return -1, float("inf")
    scores -= scores.max()
    bits = (np.log(np.exp(scores).sum()) - scores[expected]) / np.log(2)
    return int(scores.argmax()), float(bits)


def _check_fits(runtime: Runtime, window: Window) -> None:
    shape = runtime.architecture
    highest = max(*window.token_ids, *window.top1)
    if len(window.token_ids) > shape.context_window or highest >= shape.vocabulary_size:
        raise ModelIncompatibleError(
            f"the evaluation has a window of {len(window.token_ids)} tokens up to {highest}, the "
            f"model takes {shape.context_window} below {shape.vocabulary_size}"
        )
