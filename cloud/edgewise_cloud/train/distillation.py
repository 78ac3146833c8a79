"""Learning from a larger GPT-2, the teacher, and beginning with some of its layers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras_hub.models import GPT2Backbone

from edgewise_cloud.errors import TrainingError
from edgewise_cloud.keras_models.load import KerasModel

TEACHER_SHARE = 0.5  # of the loss; the rest is the text's


class Distilled(keras.Model):  # type: ignore[misc]  # Keras ships no types
    """A student, from token ids to logits, whose loss in training is partly its teacher's.

    The teacher's part is divergence(). On held-out text, the text's loss alone is measured. Keras's
    own Distiller would count the teacher's weights among the model's, and save them with each checkpoint.
    """

    def __init__(self, inputs: Any, logits: Any, teacher: GPT2Backbone) -> None:
        super().__init__(inputs, logits)
        # Inside a function Keras does not see the teacher, so it is neither trained nor saved.
        self._teach: Callable[[Any], Any] = lambda x: teacher.token_embedding(
            teacher(x, training=False), reverse=True
        )

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """See keras.Model."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        return (1 - TEACHER_SHARE) * loss + TEACHER_SHARE * divergence(self._teach(x), y_pred)


def divergence(teacher: Any, student: Any) -> Any:
    """Of the student's predictions from the teacher's, from the logits of both (arXiv:1503.02531).

    In nats, a mean over tokens. Keras's LogitsDistillation clips probabilities, which leaves no gradient
    where the student finds a token less likely than 1e-7.
    """
    # Embeddings may have more rows than there are tokens.
    rows = min(teacher.shape[-1], student.shape[-1])
    expected, found = (
        keras.ops.log_softmax(keras.ops.cast(logits[..., :rows], "float32"))
        for logits in (teacher, student)
    )
    return keras.ops.mean(keras.ops.sum(keras.ops.exp(expected) * (expected - found), axis=-1))


def require_teachable(teacher: KerasModel, student: KerasModel) -> None:
    """Raise TrainingError unless both have one vocabulary, and the teacher's window is long enough."""
    if teacher.tokenizer.fingerprint != student.tokenizer.fingerprint:
        raise TrainingError(
            f"--teacher is {teacher.name}, whose vocabulary is not that of {student.name}; give a GPT-2 "
            "with the same vocabulary"
        )
    window, needed = (model.architecture.context_window for model in (teacher, student))
    if window < needed:
        raise TrainingError(
            f"--teacher is {teacher.name}, whose context window of {window} is shorter than the "
            f"{needed} of {student.name}; give a GPT-2 whose window is as long"
        )


def with_layers(backbone: GPT2Backbone, layers: int) -> GPT2Backbone:
    """A copy with `layers` of the transformer's layers, evenly spaced from the first to the last.

    Raises TrainingError if there are not as many.
    """
    if not 1 <= layers <= backbone.num_layers:
        raise TrainingError(
            f"--layers is {layers}; the checkpoint has {backbone.num_layers}, give at most as many"
        )
    smaller = GPT2Backbone.from_config(backbone.get_config() | {"num_layers": layers})
    kept = np.linspace(0, backbone.num_layers - 1, layers).round().astype(int)
    pairs = [
        (smaller.token_embedding, backbone.token_embedding),
        (smaller.position_embedding, backbone.position_embedding),
        (smaller.layer_norm, backbone.layer_norm),
        *zip(
            smaller.transformer_layers, [backbone.transformer_layers[i] for i in kept], strict=True
        ),
    ]
    for copy, original in pairs:
        copy.set_weights(original.get_weights())
    return smaller
