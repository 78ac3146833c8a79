"""The optimizers for training from scratch and for fine-tuning."""

import math
from typing import Any

import keras
from keras import ops

from edgewise_cloud.train.schedule import Schedule

# Weight decay applies to kernels only, not to gains, biases and embeddings.
UNDECAYED = ["bias", "gamma", "beta", "embeddings"]


class MatrixMuon(keras.optimizers.Muon):  # type: ignore[misc]  # Keras ships no types
    """Muon for every kernel, including attention's, and AdamW for everything else.

    Keras's own Muon uses AdamW for kernels with three dimensions. Attention's kernels are reshaped
    matrices: (width, heads, head size) for query, key and value, (heads, head size, width) for the
    output.
    """

    def _should_use_adamw(self, variable: keras.Variable) -> bool:
        return bool(variable.name != "kernel")

    def _muon_update_step(
        self,
        gradient: keras.KerasTensor,
        variable: keras.Variable,
        lr: keras.KerasTensor,
        m: keras.Variable,
    ) -> None:
        self.assign_add(m, ops.add(gradient, m * (self.momentum - 1)))
        direction = ops.add(gradient, self.momentum * m)
        matrix = ops.reshape(direction, _matrix_shape(variable.shape))
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, ops.reshape(update, variable.shape))


def muon(schedule: Schedule) -> keras.optimizers.Optimizer:
    """For `train`; from scratch, after 250 steps on `tales`, a sixth less loss than AdamW."""
    optimizer = MatrixMuon(
        _rate(schedule),
        weight_decay=0.1,
        adam_weight_decay=0.1,
        adam_beta_2=0.95,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return optimizer


def adamw(schedule: Schedule) -> keras.optimizers.Optimizer:
    """For fine-tuning."""
    optimizer = keras.optimizers.AdamW(
        _rate(schedule), weight_decay=0.01, beta_2=0.95, global_clipnorm=1.0
    )
    optimizer.exclude_from_weight_decay(var_names=UNDECAYED)
    return optimizer


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """(inputs, outputs) of a kernel, one of the two as -1."""
    *inputs, outputs = shape
    if math.prod(inputs) == outputs or len(inputs) == 1:
        return -1, outputs
    return inputs[0], -1


class HeldThenFalling(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """Linear warmup, the peak through the first phase, then linear decay to zero.

    What is read while it decays is learned best, so the second text is, without another warmup
    (MiniCPM's warmup-stable-decay, arXiv:2404.06395).
    """

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def __call__(self, step: Any) -> Any:
        """The learning rate of a step, counted from 0."""
        schedule, done = self._schedule, ops.cast(step, "float32")
        rising = (done + 1) / (schedule.warmup + 1)
        falling = (schedule.steps - done) / (schedule.steps - schedule.first_phase)
        return schedule.learning_rate * ops.minimum(1.0, ops.minimum(rising, falling))


def _rate(schedule: Schedule) -> keras.optimizers.schedules.LearningRateSchedule:
    """Linear warmup to the schedule's learning rate, then cosine decay to a fiftieth of it.

    With a second phase, see HeldThenFalling.
    """
    if schedule.then_share is not None:
        return HeldThenFalling(schedule)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0,
        decay_steps=max(1, schedule.steps - schedule.warmup),
        alpha=0.02,
        warmup_target=schedule.learning_rate,
        warmup_steps=schedule.warmup,
    )
