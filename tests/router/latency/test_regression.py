"""The robust fit and the weighted median."""

import math

import pytest

from edgewise.latency.regression import censored_quantile, dot, fit, weighted_median


def test_fit_finds_the_coefficients():
    """Values made from coefficients are reproduced."""
    rows = [(1.0, x, x * x) for x in (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)]
    found = fit(rows, [dot(row, (3.0, 2.0, 1.0)) for row in rows], [1.0] * 6)
    assert [dot(row, found) for row in rows] == pytest.approx(
        [dot(row, (3.0, 2.0, 1.0)) for row in rows], rel=0.02
    )


def test_no_coefficient_is_negative():
    """A feature with which the values fall is ignored."""
    rows = [(1.0, x) for x in (1.0, 2.0, 3.0)]
    assert fit(rows, [3.0, 2.0, 1.0], [1.0] * 3)[1] == 0


def test_huge_values_are_fitted():
    """The result is finite even if rounding leaves a singular matrix."""
    rows = [(1.0, 2.0**25 + n, 2.0**45 + n) for n in range(8)]
    for values in ([1e-6] * 8, [1e6] * 8, [1e-6, 1e6] * 4):
        assert all(0 <= found < math.inf for found in fit(rows, values, [1.0] * 8))


def test_weight_of_zero_has_no_effect():
    """Values count by their weights."""
    rows, values = [(1.0,), (1.0,)], [1.0, 5.0]
    assert fit(rows, values, [1.0, 0.0])[0] == pytest.approx(1.0, rel=0.02)
    assert fit(rows, values, [0.0, 1.0])[0] == pytest.approx(5.0, rel=0.02)


@pytest.mark.parametrize(
    ("values", "weights", "median"),
    [([7.0], [1.0], 7.0), ([9, 1, 5], [1, 1, 1], 5), ([9, 1, 5], [3, 1, 1], 9)],
)
def test_weighted_median_has_half_the_weight_below(values, weights, median):
    """In any order."""
    assert weighted_median(values, weights) == median


@pytest.mark.parametrize(
    ("complete", "bounds", "quantile"),
    [
        ([3, 1, 2], [], 2),
        ([1, 2, 3], [0], 2),  # says little of values above it
        ([1, 2, 3], [9], 3),
        ([1, 2], [5, 6], 6),  # beyond all that were complete
        ([], [4], 4),
    ],
)
def test_lower_bounds_count_as_values_above_them(complete, bounds, quantile):
    """So the median of the complete ones alone would be too low."""
    values = [(value, True) for value in complete] + [(bound, False) for bound in bounds]
    assert censored_quantile(values, 0.5) == quantile
