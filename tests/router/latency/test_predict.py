"""Predicted times of a device, fitted to simulated measurements; and of either, to any."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.latency.history import History
from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import CloudTimes, DeviceTimes

# A simulated device: seconds for a step, to prefill a token, for its attention to another, and to
# copy a cached token.
STEP, PREFILL, ATTEND, COPY = 5e-3, 2e-4, 1e-7, 2e-5
GAP, GAP_BY_POSITION = 4e-3, 4e-6


def on_device(position, uncached=None, tokens=2, *, speed=1.0) -> Measurement:
    """A measurement of the simulated device."""
    uncached, gaps = uncached or position, tokens - 1
    first = STEP + PREFILL * uncached + ATTEND * uncached * (position - uncached / 2)
    first += COPY * (position - uncached)
    decode = gaps * (GAP + GAP_BY_POSITION * (position + tokens / 2))
    return Measurement(
        position=position,
        uncached=uncached,
        first_token=first / speed,
        tokens=tokens,
        decode_time=decode / speed,
    )


def mixed(count, *, speed=1.0, seed=1) -> list[Measurement]:
    """Generations of all sizes, some with a cached prefix."""
    chance = random.Random(seed)
    positions = [round(4 * 100 ** chance.random()) for _ in range(count)]
    return [
        on_device(
            position,
            chance.choice([position, chance.randint(1, position)]),
            round(4 * 50 ** chance.random()),
            speed=speed,
        )
        for position in positions
    ]


def predicted(measured, like):
    """The prediction for a generation like that one."""
    return DeviceTimes.fitted(measured).predict(
        position=like.position, uncached=like.uncached, max_tokens=like.tokens
    )


def error(measured, like) -> float:
    """The relative error of the predicted total."""
    return abs(predicted(measured, like).total / like.total - 1)


def test_sizes_like_the_measured_are_predicted_well():
    """A device that behaves as the model assumes is predicted within 5 %, also between sizes."""
    known = mixed(64)
    assert max(error(known, like) for like in mixed(100, seed=2)) < 0.05


def test_larger_sizes_are_predicted_well():
    """Attention grows with the square of a prompt, which shorter prompts show."""
    known = [on_device(position, tokens=30) for position in range(20, 420, 20)]
    assert error(known, on_device(900, tokens=100)) < 0.1


def test_cached_tokens_need_no_prefill():
    """With a long cached prefix the first token comes soon."""
    known = mixed(64)
    for like in (on_device(400, 10), on_device(400, 400)):
        assert predicted(known, like).first_token == pytest.approx(like.first_token, rel=0.1)


@pytest.mark.parametrize("like", [on_device(65, tokens=8), on_device(1, tokens=2)])
def test_one_measurement_predicts_the_same_size(like):
    """A generation of the same size is predicted to take the same time."""
    assert error([like], like) < 0.05


@pytest.mark.parametrize("known", [[on_device(65, tokens=8)], [on_device(65, tokens=2)] * 8])
def test_one_measurement_predicts_other_sizes_roughly(known):
    """A calibration is off by at most a factor of about two, up to eight times its size."""
    for like in (on_device(4, tokens=4), on_device(4, tokens=200), on_device(500, tokens=200)):
        assert 0.45 < predicted(known, like).total / like.total < 2.2
    assert 0.3 < predicted(known, on_device(500)).first_token / on_device(500).first_token < 3


def test_equal_sizes_predict_others_roughly():
    """A constant time is divided between the features that may have caused it."""
    chance = random.Random(1)
    known = [on_device(60, tokens=20, speed=chance.uniform(0.9, 1.1)) for _ in range(64)]
    for like in (on_device(10, tokens=20), on_device(400, tokens=20), on_device(60, tokens=200)):
        assert 0.5 < predicted(known, like).total / like.total < 2


def test_single_tokens_do_not_predict_gaps():
    """First tokens are predicted then, and the totals of single tokens, but no other totals."""
    times = DeviceTimes.fitted([on_device(65, tokens=1)])
    one = times.predict(position=65, uncached=65, max_tokens=1)
    two = times.predict(position=65, uncached=65, max_tokens=2)
    assert one.total == one.first_token == two.first_token == pytest.approx(0.0182, rel=0.05)
    assert (two.total, two.gap) == (None, None)


def test_unmeasured_device_is_unknown():
    """Without measurements nothing is predicted."""
    nothing = DeviceTimes.fitted([]).predict(position=9, uncached=9, max_tokens=1)
    assert (nothing.first_token, nothing.total, nothing.gap) == (None, None, None)


def test_gap_is_the_mean_of_the_answer():
    """Longer answers have longer gaps, since each token attends to all before it."""
    known = mixed(64)
    for like in (on_device(10, tokens=11), on_device(10, tokens=401)):
        found = predicted(known, like)
        assert found.gap == pytest.approx((found.total - found.first_token) / (like.tokens - 1))
        assert found.gap == pytest.approx(like.decode_time / (like.tokens - 1), rel=0.03)


def test_answer_of_one_token_has_the_gap_of_a_longer_one():
    """So that the wait for more tokens is known."""
    known, like = mixed(64), on_device(10, tokens=1)
    found = predicted(known, like)
    assert found.total == found.first_token
    assert found.gap == predicted(known, on_device(10, tokens=2)).gap


def test_queue_multiplies_the_time():
    """With two other generations, everything but loading takes three times as long."""
    times = DeviceTimes.fitted(mixed(64))
    alone = times.predict(position=9, uncached=9, max_tokens=9)
    queued = times.predict(position=9, uncached=9, max_tokens=9, queue_length=2, load=5.0)
    assert queued.first_token == pytest.approx(5.0 + 3 * alone.first_token)
    assert queued.total == pytest.approx(5.0 + 3 * alone.total)
    assert queued.gap == pytest.approx(3 * alone.gap)


# A device that stalls, and whose speed changes.


@pytest.mark.parametrize("stall", [0.001, 20.0])
@pytest.mark.parametrize("which", [{0}, {63}, {10, 40, 62}, set(range(0, 60, 5))])
def test_outliers_change_little(stall, which):
    """A fifth of the runs may have stalled, the last one included, or be impossibly fast."""
    known = [
        replace(m, first_token=m.first_token * stall, decode_time=m.decode_time * stall)
        if number in which
        else m
        for number, m in enumerate(mixed(64))
    ]
    errors = [error(known, like) for like in mixed(50, seed=2)]
    assert sorted(errors)[45] < 0.1


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.5])
def test_predictions_follow_the_speed_of_the_machine(speed):
    """After seven generations at the new speed, nearly all are predicted within 15 %."""
    history, ask = History(), mixed(50, seed=2)
    for measured in mixed(64):
        history.add(measured)
        assert history.on_device  # used between them, as by a router
    for measured in mixed(7, speed=speed, seed=3):
        history.add(measured)
    now = [
        replace(m, first_token=m.first_token / speed, decode_time=m.decode_time / speed)
        for m in ask
    ]
    errors = sorted(
        abs(
            history.on_device.predict(
                position=m.position, uncached=m.uncached, max_tokens=m.tokens
            ).total
            / m.total
            - 1
        )
        for m in now
    )
    assert errors[45] < 0.15


def test_noise_averages_out():
    """If single runs vary by a quarter, most predictions stay within a fifth."""
    chance = random.Random(5)
    known = [
        replace(m, first_token=m.first_token * f, decode_time=m.decode_time * f)
        for m in mixed(64)
        for f in [chance.uniform(0.75, 1.25)]
    ]
    errors = sorted(error(known, like) for like in mixed(50, seed=2))
    assert errors[45] < 0.2


@pytest.mark.parametrize("count", [5, 72])
def test_incremental_fit_equals_a_fit_at_once(count):
    """After the same measurements, whether or not it was used in between."""
    used, unused = History(), History()
    for measured in mixed(count):
        assert used.on_device
        used.add(measured)
        unused.add(measured)
    assert used.on_device == unused.on_device


def test_rescaling_twice_changes_nothing():
    """With the same measurements the slowdown stays the same."""
    times = DeviceTimes.fitted(mixed(64)).rescaled(mixed(16, speed=0.5, seed=2))
    assert times.slowdown == pytest.approx(2.0, rel=0.05)
    assert times.rescaled(mixed(16, speed=0.5, seed=2)).slowdown == pytest.approx(times.slowdown)


def test_costs_that_change_are_refitted():
    """If only prefill has become slower, the last 28 of 64 generations show it."""

    def now(measured):
        return replace(measured, first_token=4 * measured.first_token)

    known = [*mixed(36), *map(now, mixed(28, seed=2))]
    for like in map(now, (on_device(400), on_device(100), on_device(10))):
        assert predicted(known, like).first_token == pytest.approx(like.first_token, rel=0.3)


# Arbitrary measurements.

seconds = st.floats(0, 999_999)
sizes = st.integers(1, 2**31 - 1) | st.integers(1, 600)
measurements = st.builds(
    lambda position, share, first, tokens, decode, queued, at: Measurement(
        position=position,
        uncached=max(1, int(position * share)),
        first_token=first,
        tokens=tokens,
        decode_time=decode,
        queued=queued,
        at=at,
    ),
    sizes,
    st.floats(0, 1),
    seconds,
    sizes | st.just(0),
    seconds,
    seconds,
    st.floats(0, 2e9),
)


@settings(deadline=None)
@given(st.lists(measurements, max_size=20), sizes, st.floats(0, 1), sizes, st.integers(0, 8))
def test_predictions_are_durations(measured, position, share, max_tokens, queue_length):
    """Never negative or NaN, and not shorter for longer answers."""
    uncached = max(1, int(position * share))
    device, other = DeviceTimes.fitted(measured), CloudTimes.fitted(measured)

    def predictions(tokens):
        yield device.predict(
            position=position, uncached=uncached, max_tokens=tokens, queue_length=queue_length
        )
        yield other.predict(position=position, max_tokens=tokens)

    for short, long in zip(predictions(max_tokens), predictions(max_tokens + 1), strict=True):
        for found in (short, long):
            for value in (found.first_token, found.total, found.gap):
                assert value is None or 0 <= value < math.inf
            assert measured or found.first_token is None
            assert found.first_token is not None or not any(m.complete for m in measured)
            assert found.total is None or found.total >= found.first_token
        assert short.first_token == long.first_token
        assert None in (short.total, long.total) or short.total <= long.total
