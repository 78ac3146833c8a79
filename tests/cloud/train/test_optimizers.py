"""What a step of each optimizer does to each kind of weight."""

from collections.abc import Callable
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras_hub.models import GPT2Backbone

from edgewise_cloud.train.optimizers import MatrixMuon, adamw, muon
from edgewise_cloud.train.schedule import Schedule

WIDTH, HEADS = 16, 2
RATE = 0.01
SCHEDULE = Schedule(steps=1000, learning_rate=RATE)
STEADY = Schedule(steps=1, learning_rate=RATE)  # without warmup


@pytest.fixture
def backbone() -> GPT2Backbone:
    return GPT2Backbone(
        vocabulary_size=20,
        num_layers=1,
        num_heads=HEADS,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        max_sequence_length=8,
    )


def changes(
    optimizer: keras.optimizers.Optimizer,
    variables: list[keras.Variable],
    gradient: Callable[[tuple[int, ...]], np.ndarray],
    steps: int = 1,
) -> list[np.ndarray]:
    """How much some steps subtract from each variable."""
    before = [np.asarray(variable).copy() for variable in variables]
    gradients = [gradient(variable.shape).astype(np.float32) for variable in variables]
    for _ in range(steps):
        optimizer.apply([keras.ops.convert_to_tensor(one) for one in gradients], variables)
    return [old - np.asarray(new) for old, new in zip(before, variables, strict=True)]


def test_kernels_use_muon_and_other_weights_adamw(backbone: GPT2Backbone) -> None:
    """Muon's update has nearly equal singular values, AdamW's nearly equal entries."""
    optimizer = MatrixMuon(RATE, weight_decay=0.0, adam_weight_decay=0.0)
    variables = backbone.trainable_variables
    draw = np.random.default_rng(1).normal  # large compared with AdamW's epsilon
    moved = changes(optimizer, variables, lambda shape: draw(0, 100, shape))
    kernels = 0
    for variable, change in zip(variables, moved, strict=True):
        if variable.name == "kernel":
            kernels += 1
            # Query, key and value are (width, heads, head size), the output (heads, head size, width).
            matrix = change.reshape(-1, change.shape[-1])
            if "attention" in variable.path:
                matrix = change.reshape(WIDTH, WIDTH)
            spread = np.linalg.svd(matrix / (RATE * 0.2 * max(matrix.shape) ** 0.5))[1]
            assert spread.min() > 0.2, variable.path
            assert spread.max() < 1.3, variable.path
        else:
            np.testing.assert_allclose(np.abs(change), RATE, rtol=1e-3, err_msg=variable.path)
    assert kernels == 6


@pytest.mark.parametrize(
    "shape", [(WIDTH, HEADS, WIDTH // HEADS), (HEADS, WIDTH // HEADS, WIDTH), (WIDTH, 1, WIDTH)]
)
def test_an_attention_kernel_is_updated_as_a_matrix(shape: tuple[int, ...]) -> None:
    """As Keras's own Muon updates the same numbers in a matrix."""
    generator = np.random.default_rng(1)
    start, gradient = (generator.normal(size=WIDTH * WIDTH).astype(np.float32) for _ in range(2))
    after = []
    for optimizer, form in ((MatrixMuon, shape), (keras.optimizers.Muon, (WIDTH, WIDTH))):
        kernel = keras.Variable(start.reshape(form), name="kernel")
        changes(optimizer(RATE), [kernel], lambda _, form=form: gradient.reshape(form), steps=3)
        after.append(np.asarray(kernel).reshape(WIDTH, WIDTH))
    np.testing.assert_allclose(after[0], after[1], rtol=0, atol=1e-6)
    assert np.abs(after[0] - start.reshape(WIDTH, WIDTH)).max() > RATE / 10


@pytest.mark.parametrize(("make", "decay"), [(muon, 0.1), (adamw, 0.01)])
def test_only_kernels_decay(
    make: Callable[[Schedule], keras.optimizers.Optimizer], decay: float, backbone: GPT2Backbone
) -> None:
    """With zero gradients, gains, biases and embeddings do not change."""
    for variable in backbone.trainable_variables:
        variable.assign(keras.ops.ones_like(variable))
    moved = changes(make(STEADY), backbone.trainable_variables, np.zeros)
    for variable, change in zip(backbone.trainable_variables, moved, strict=True):
        expected = RATE * decay if variable.name == "kernel" else 0.0
        np.testing.assert_allclose(change, expected, rtol=1e-3, err_msg=variable.path)


@pytest.mark.parametrize("make", [muon, adamw])
def test_the_learning_rate_rises_and_falls(
    make: Callable[[Schedule], keras.optimizers.Optimizer],
) -> None:
    """From zero to the schedule's over the warmup, and down to a fiftieth at the end."""
    optimizer = make(SCHEDULE)
    rates = []
    for step in (0, SCHEDULE.warmup // 2, SCHEDULE.warmup, SCHEDULE.steps):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert rates == pytest.approx([0.0, RATE / 2, RATE, RATE / 50])


def test_the_learning_rate_falls_to_zero_through_a_second_phase() -> None:
    """It rises once, stays at its peak through the first phase, and never rises again."""
    schedule = replace(SCHEDULE, then_share=0.2)
    optimizer = muon(schedule)
    rates = []
    for step in range(0, 1001, 50):
        optimizer.iterations.assign(step)
        rates.append(float(optimizer.learning_rate))
    assert 0 < rates[0] < RATE / 50
    assert rates[2:17] == pytest.approx([RATE] * 15)
    assert rates[16:] == pytest.approx([RATE, RATE * 0.75, RATE / 2, RATE * 0.25, 0.0])
