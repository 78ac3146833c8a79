"""Predicted times of a cloud, fitted to simulated measurements."""

import math
import random

import pytest

from edgewise.latency.measurement import Measurement
from edgewise.latency.predict import CloudTimes


def in_cloud(first_token, *, position=9, tokens=2, gap=0.1, queued=0.0, at=0.0) -> Measurement:
    """A measurement of a cloud."""
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
    found = CloudTimes.fitted(measured).predict(
        position=position, max_tokens=max_tokens, expected_wait=expected_wait
    )
    return found.first_token, found.total, found.gap


def about(*values):
    """The same values, with a tolerance for rounding."""
    return tuple(value if value is None else pytest.approx(value) for value in values)


def test_unmeasured_cloud_is_unknown():
    """Without measurements nothing is predicted for the cloud, whatever it says about its queue."""
    assert cloud([], expected_wait=1.0) == (None, None, None)


def test_cloud_that_sent_single_tokens_has_no_total():
    """Without a measured gap the first token is predicted, but no total of several tokens."""
    single = [in_cloud(0.5, tokens=1)]
    assert cloud(single, max_tokens=10) == about(0.5, None, None)
    assert cloud(single) == about(0.5, 0.5, None)


def test_first_token_of_the_cloud_is_a_high_quantile():
    """Of eleven first tokens all but the slowest come by the predicted time, in any order."""
    firsts = [0.5, 1.1, 0.1, 0.9, 0.3, 1.0, 0.7, 0.2, 0.8, 0.4, 0.6]
    assert cloud([in_cloud(first) for first in firsts]) == about(1.0, 1.0, 0.1)


def test_gap_of_the_cloud_is_the_median():
    """Long answers have more weight."""
    measured = [in_cloud(1.0, gap=gap, tokens=n) for gap, n in ((9.0, 2), (0.2, 12), (8.0, 2))]
    assert cloud(measured, max_tokens=11) == about(1.0, 3.0, 0.2)


def test_queueing_is_a_high_quantile_unless_the_cloud_says():
    """Queueing is predicted separately, since the cloud may know its current queue."""
    waits = [0.2, 5.0, 0.1, 3.0, 0.0, 1.0, 0.5, 2.0, 0.3, 0.4, 4.0]
    measured = [in_cloud(1.0 + wait, queued=wait) for wait in waits]
    assert cloud(measured)[0] == pytest.approx(1.0 + 4.0)
    assert cloud(measured, expected_wait=0.0)[0] == pytest.approx(1.0)
    assert cloud(measured, expected_wait=7.0)[0] == pytest.approx(1.0 + 7.0)


@pytest.mark.parametrize("said", [math.nan, math.inf, -1.0])
def test_impossible_queueing_time_is_ignored(said):
    """The measured one counts then."""
    assert cloud([in_cloud(2.0, queued=0.5)], expected_wait=said)[0] == pytest.approx(2.0)


def test_measurements_older_by_an_hour_are_ignored():
    """Unless there are no newer ones."""
    old, late, now = in_cloud(9.0), in_cloud(2.0, at=3000.0), in_cloud(1.0, at=6000.0)
    assert cloud([old, late, now])[0] == pytest.approx(2.0)
    assert cloud([old])[0] == pytest.approx(9.0)


def test_prompt_length_counts_if_significant():
    """If first tokens come later for longer prompts, they are predicted so."""
    chance = random.Random(1)
    positions = [chance.randint(4, 400) for _ in range(40)]
    known = [in_cloud(0.05 + 0.001 * p + chance.uniform(0, 0.02), position=p) for p in positions]
    for position in (4, 100, 400, 800):
        found = cloud(known, position=position)[0]
        assert found == pytest.approx(0.06 + 0.001 * position, abs=0.02 + position * 5e-5)


def test_prompt_length_does_not_count_if_insignificant():
    """If first tokens vary for other reasons, a long prompt makes no difference."""
    chance = random.Random(1)
    known = [in_cloud(chance.uniform(0.1, 0.5), position=chance.randint(4, 400)) for _ in range(40)]
    assert cloud(known, position=4) == cloud(known, position=800)


def test_attempts_that_were_given_up_raise_the_late_quantile():
    """Those that answered are the fast ones; a bound below them changes nothing."""
    fast = [in_cloud(0.1 * number) for number in range(1, 10)]
    assert cloud([*fast, *[in_cloud(5.0, tokens=0, gap=0.0)] * 9])[0] == pytest.approx(5.0)
    early = [in_cloud(0.01, tokens=0, gap=0.0)]
    assert cloud([*fast, *early]) == cloud(fast)
    assert cloud(early) == about(0.01, 0.01, None)
