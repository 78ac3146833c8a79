"""Predicted times, learned from invented measurements."""

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgewise.latency.history import History
from edgewise.latency.log import Measurement
from edgewise.latency.predict import CloudTimes, DeviceTimes
from edgewise.latency.regression import fit, product, weighted_median

# An invented device: seconds for a step, for reading a token, for its attention to another, and
# for each token that was read before.
STEP, READ, ATTEND, LAY_OUT = 5e-3, 2e-4, 1e-7, 2e-5
GAP, GAP_BY_POSITION = 4e-3, 4e-6


def on_device(position, uncached=None, tokens=2, *, speed=1.0) -> Measurement:
    """What the invented device needs."""
    uncached, gaps = uncached or position, tokens - 1
    first = STEP + READ * uncached + ATTEND * uncached * (position - uncached / 2)
    first += LAY_OUT * (position - uncached)
    writing = gaps * (GAP + GAP_BY_POSITION * (position + tokens / 2))
    return Measurement(
        position=position,
        uncached=uncached,
        first_token=first / speed,
        tokens=tokens,
        decode_time=writing / speed,
    )


def mixed(count, *, speed=1.0, seed=1) -> list[Measurement]:
    """Texts of all sizes, some of which were read in part before."""
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
    """What is predicted for a text of that size."""
    return DeviceTimes.learned(measured).predict(
        position=like.position, uncached=like.uncached, max_tokens=like.tokens
    )


def error(measured, like) -> float:
    """How far off the predicted total is, relative to what it takes."""
    return abs(predicted(measured, like).total / like.total - 1)


# The device.


def test_texts_like_the_measured_are_predicted_well():
    """A device that behaves as the model says is predicted within 5 %, sizes between included."""
    known = mixed(64)
    assert max(error(known, like) for like in mixed(100, seed=2)) < 0.05


def test_larger_texts_than_the_measured_are_predicted_well():
    """Attention grows with the square of a prompt, and that was seen in shorter ones."""
    known = [on_device(position, tokens=30) for position in range(20, 420, 20)]
    assert error(known, on_device(900, tokens=100)) < 0.1


def test_what_is_remembered_need_not_be_read():
    """Of a long text with a few new tokens, the first new one comes soon."""
    known = mixed(64)
    again, anew = on_device(400, 10), on_device(400, 400)
    for like in (again, anew):
        assert predicted(known, like).first_token == pytest.approx(like.first_token, rel=0.1)


@pytest.mark.parametrize("like", [on_device(65, tokens=8), on_device(1, tokens=2)])
def test_one_measurement_predicts_its_like(like):
    """The text that was measured is predicted to take as long again."""
    assert error([like], like) < 0.05


@pytest.mark.parametrize("known", [[on_device(65, tokens=8)], [on_device(65, tokens=2)] * 8])
def test_one_measurement_predicts_the_others_sensibly(known):
    """A calibration is enough to be no more than about twice off, up to eight times its size."""
    for like in (on_device(4, tokens=4), on_device(4, tokens=200), on_device(500, tokens=200)):
        assert 0.45 < predicted(known, like).total / like.total < 2.2
    assert 0.3 < predicted(known, on_device(500)).first_token / on_device(500).first_token < 3


def test_texts_all_alike_predict_others_sensibly():
    """What always was the same is shared out between what may have cost it."""
    chance = random.Random(1)
    known = [on_device(60, tokens=20, speed=chance.uniform(0.9, 1.1)) for _ in range(64)]
    for like in (on_device(10, tokens=20), on_device(400, tokens=20), on_device(60, tokens=200)):
        assert 0.5 < predicted(known, like).total / like.total < 2


def test_single_tokens_tell_nothing_about_the_gaps():
    """First tokens are predicted then, and the totals of single tokens, but no other totals."""
    times = DeviceTimes.learned([on_device(65, tokens=1)])
    one = times.predict(position=65, uncached=65, max_tokens=1)
    two = times.predict(position=65, uncached=65, max_tokens=2)
    assert one.total == one.first_token == two.first_token == pytest.approx(0.0182, rel=0.05)
    assert (two.total, two.gap) == (None, None)


def test_nothing_measured_is_unknown():
    """Without measurements nothing is predicted."""
    nothing = DeviceTimes.learned([]).predict(position=9, uncached=9, max_tokens=1)
    assert (nothing.first_token, nothing.total, nothing.gap) == (None, None, None)


def test_the_gap_is_that_between_the_answers_tokens():
    """On average: longer answers have longer gaps, since each token attends to all before it."""
    known = mixed(64)
    for like in (on_device(10, tokens=11), on_device(10, tokens=401)):
        found = predicted(known, like)
        assert found.gap == pytest.approx((found.total - found.first_token) / (like.tokens - 1))
        assert found.gap == pytest.approx(like.decode_time / (like.tokens - 1), rel=0.03)


def test_an_answer_of_one_token_has_the_gap_of_a_longer_one():
    """So that it is known for how long more would be waited for."""
    known, like = mixed(64), on_device(10, tokens=1)
    found = predicted(known, like)
    assert found.total == found.first_token
    assert found.gap == predicted(known, on_device(10, tokens=2)).gap


def test_others_beside_it_take_their_turns():
    """With two other texts, all takes three times as long; loading does not."""
    times = DeviceTimes.learned(mixed(64))
    alone = times.predict(position=9, uncached=9, max_tokens=9)
    beside = times.predict(position=9, uncached=9, max_tokens=9, queue_length=2, load=5.0)
    assert beside.first_token == pytest.approx(5.0 + 3 * alone.first_token)
    assert beside.total == pytest.approx(5.0 + 3 * alone.total)
    assert beside.gap == pytest.approx(3 * alone.gap)


# The device stalls now and then, and is slower today than yesterday.


@pytest.mark.parametrize("stall", [0.001, 20.0])
@pytest.mark.parametrize("which", [{0}, {63}, {10, 40, 62}, set(range(0, 60, 5))])
def test_a_few_runs_that_are_far_off_change_little(stall, which):
    """A fifth of them may have stalled, the last one among them, or be impossibly fast."""
    known = [
        replace(m, first_token=m.first_token * stall, decode_time=m.decode_time * stall)
        if number in which
        else m
        for number, m in enumerate(mixed(64))
    ]
    errors = [error(known, like) for like in mixed(50, seed=2)]
    assert sorted(errors)[45] < 0.1


@pytest.mark.parametrize("speed", [0.5, 0.75, 1.5])
def test_predictions_follow_the_machines_speed(speed):
    """After seven generations at the new speed, nearly all is predicted within 15 %."""
    history, ask = History(), mixed(50, seed=2)
    for measured in mixed(64):
        history.add(measured)
        assert history.on_device  # is asked for between them, as it is by a router
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
    """Where single runs scatter by a quarter, the predictions stay within a tenth or so."""
    chance = random.Random(5)
    known = [
        replace(m, first_token=m.first_token * f, decode_time=m.decode_time * f)
        for m in mixed(64)
        for f in [chance.uniform(0.75, 1.25)]
    ]
    errors = sorted(error(known, like) for like in mixed(50, seed=2))
    assert errors[45] < 0.2


@pytest.mark.parametrize("count", [5, 72])
def test_a_history_learns_as_it_goes_what_it_would_have_learned_at_once(count):
    """Asked in between or not, after the same measurements the same is known."""
    asked, late = History(), History()
    for measured in mixed(count):
        assert asked.on_device
        asked.add(measured)
        late.add(measured)
    assert asked.on_device == late.on_device


def test_the_pace_is_found_again():
    """Learning it anew from the same measurements changes nothing."""
    times = DeviceTimes.learned(mixed(64)).paced(mixed(16, speed=0.5, seed=2))
    assert times.pace == pytest.approx(2.0, rel=0.05)
    assert times.paced(mixed(16, speed=0.5, seed=2)).pace == pytest.approx(times.pace)


def test_costs_that_change_are_learned_anew():
    """Where only reading has become slower, the last 28 of 64 texts tell, whatever came before."""

    def now(measured):
        return replace(measured, first_token=4 * measured.first_token)

    known = [*mixed(36), *map(now, mixed(28, seed=2))]
    for like in map(now, (on_device(400), on_device(100), on_device(10))):
        assert predicted(known, like).first_token == pytest.approx(like.first_token, rel=0.3)


# The cloud.


def in_cloud(first_token, *, position=9, tokens=2, gap=0.1, queued=0.0, at=0.0) -> Measurement:
    """What a cloud needed."""
    return Measurement(
        position=position,
        uncached=position,
        first_token=first_token,
        tokens=tokens,
        decode_time=gap * (tokens - 1),
        queued=queued,
        at=at,
    )


def cloud(measured, *, position=9, max_tokens=1, expected_wait=None):
    """The cloud's prediction: first token, total and gap."""
    found = CloudTimes.learned(measured).predict(
        position=position, max_tokens=max_tokens, expected_wait=expected_wait
    )
    return found.first_token, found.total, found.gap


def about(*values):
    """The same, as exactly as floats allow."""
    return tuple(value if value is None else pytest.approx(value) for value in values)


def test_an_unmeasured_cloud_is_unknown():
    """Without measurements nothing is predicted for the cloud, whatever it says of its queue."""
    assert cloud([], expected_wait=1.0) == (None, None, None)


def test_a_cloud_that_sent_single_tokens_has_no_known_total():
    """Without a measured gap the first token is predicted, and a total of more is not."""
    single = [in_cloud(0.5, tokens=1)]
    assert cloud(single, max_tokens=10) == about(0.5, None, None)
    assert cloud(single) == about(0.5, 0.5, None)


def test_the_clouds_first_token_is_predicted_late():
    """Of eleven first tokens all but the slowest come by the predicted time, in any order."""
    firsts = [0.5, 1.1, 0.1, 0.9, 0.3, 1.0, 0.7, 0.2, 0.8, 0.4, 0.6]
    assert cloud([in_cloud(first) for first in firsts]) == about(1.0, 1.0, 0.1)


def test_the_clouds_gap_is_the_median():
    """Each further token takes the median gap, in which long answers count for more."""
    measured = [in_cloud(1.0, gap=gap, tokens=n) for gap, n in ((9.0, 2), (0.2, 12), (8.0, 2))]
    assert cloud(measured, max_tokens=11) == about(1.0, 3.0, 0.2)


def test_the_queue_is_predicted_late_unless_the_cloud_tells_it():
    """What was queued counts by itself: the cloud knows better how long its queue is now."""
    waits = [0.2, 5.0, 0.1, 3.0, 0.0, 1.0, 0.5, 2.0, 0.3, 0.4, 4.0]
    measured = [in_cloud(1.0 + wait, queued=wait) for wait in waits]
    assert cloud(measured)[0] == pytest.approx(1.0 + 4.0)
    assert cloud(measured, expected_wait=0.0)[0] == pytest.approx(1.0)
    assert cloud(measured, expected_wait=7.0)[0] == pytest.approx(1.0 + 7.0)


@pytest.mark.parametrize("said", [math.nan, math.inf, -1.0])
def test_a_queue_that_cannot_be_is_not_believed(said):
    """Whoever says so: what was measured counts then."""
    assert cloud([in_cloud(2.0, queued=0.5)], expected_wait=said)[0] == pytest.approx(2.0)


def test_what_is_older_by_an_hour_counts_no_more():
    """Unless nothing newer is known."""
    old, late, now = in_cloud(9.0), in_cloud(2.0, at=3000.0), in_cloud(1.0, at=6000.0)
    assert cloud([old, late, now])[0] == pytest.approx(2.0)
    assert cloud([old])[0] == pytest.approx(9.0)


def test_reading_in_the_cloud_counts_where_it_shows():
    """A cloud whose first tokens come later for longer prompts is predicted so."""
    chance = random.Random(1)
    positions = [chance.randint(4, 400) for _ in range(40)]
    known = [in_cloud(0.05 + 0.001 * p + chance.uniform(0, 0.02), position=p) for p in positions]
    for position in (4, 100, 400, 800):
        found = cloud(known, position=position)[0]
        assert found == pytest.approx(0.06 + 0.001 * position, abs=0.02 + position * 5e-5)


def test_reading_in_the_cloud_does_not_count_where_it_does_not_show():
    """Where first tokens scatter for other reasons, a long prompt's comes no later."""
    chance = random.Random(1)
    known = [in_cloud(chance.uniform(0.1, 0.5), position=chance.randint(4, 400)) for _ in range(40)]
    assert cloud(known, position=4) == cloud(known, position=800)


# Whatever was measured.

seconds = st.floats(0, 999_999)
sizes = st.integers(1, 2**31 - 1) | st.integers(1, 600)
measurements = st.builds(
    lambda position, share, first, tokens, writing, queued, at: Measurement(
        position=position,
        uncached=max(1, int(position * share)),
        first_token=first,
        tokens=tokens,
        decode_time=writing,
        queued=queued,
        at=at,
    ),
    sizes,
    st.floats(0, 1),
    seconds,
    sizes,
    seconds,
    seconds,
    st.floats(0, 2e9),
)


@settings(deadline=None)
@given(st.lists(measurements, max_size=20), sizes, st.floats(0, 1), sizes, st.integers(0, 8))
def test_predictions_are_times(measured, position, share, max_tokens, queue_length):
    """Whatever was measured: never negative, never NaN, and longer for longer answers."""
    uncached = max(1, int(position * share))
    device, other = DeviceTimes.learned(measured), CloudTimes.learned(measured)

    def predictions(tokens):
        yield device.predict(
            position=position, uncached=uncached, max_tokens=tokens, queue_length=queue_length
        )
        yield other.predict(position=position, max_tokens=tokens)

    for short, long in zip(predictions(max_tokens), predictions(max_tokens + 1), strict=True):
        for found in (short, long):
            for value in (found.first_token, found.total, found.gap):
                assert value is None or 0 <= value < math.inf
            assert (found.first_token is None) == (not measured)
            assert found.total is None or found.total >= found.first_token
        assert short.first_token == long.first_token
        assert None in (short.total, long.total) or short.total <= long.total


# The statistics.


def test_a_fit_finds_what_made_the_values():
    """Coefficients come out as they went in, but for a trifle."""
    rows = [(1.0, x, x * x) for x in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)]
    found = fit(rows, [product(row, (3.0, 2.0, 1.0)) for row in rows], [1.0] * 6)
    assert [product(row, found) for row in rows] == pytest.approx(
        [product(row, (3.0, 2.0, 1.0)) for row in rows], rel=0.02
    )


def test_no_coefficient_is_negative():
    """Values that fall where a feature grows are fitted without that feature."""
    rows = [(1.0, x) for x in (1.0, 2.0, 3.0)]
    assert fit(rows, [3.0, 2.0, 1.0], [1.0] * 3)[1] == 0


def test_sizes_beyond_measure_are_fitted():
    """Where rounding leaves nothing to divide by, something finite comes out all the same."""
    rows = [(1.0, 2.0**25 + n, 2.0**45 + n) for n in range(8)]
    for values in ([1e-6] * 8, [1e6] * 8, [1e-6, 1e6] * 4):
        assert all(0 <= found < math.inf for found in fit(rows, values, [1.0] * 8))


def test_what_weighs_nothing_changes_nothing():
    """A value's weight is what it counts."""
    rows, values = [(1.0,), (1.0,)], [1.0, 5.0]
    assert fit(rows, values, [1.0, 0.0])[0] == pytest.approx(1.0, rel=0.02)
    assert fit(rows, values, [0.0, 1.0])[0] == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("values", "weights", "median"),
    [([7.0], [1.0], 7.0), ([9, 1, 5], [1, 1, 1], 5), ([9, 1, 5], [3, 1, 1], 9)],
)
def test_the_weighted_median_has_half_the_weight_below(values, weights, median):
    """Values count by their weights, in any order."""
    assert weighted_median(values, weights) == median
