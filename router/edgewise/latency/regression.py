"""The robust statistics behind the predictions, in pure Python because NumPy imports slowly."""

from collections.abc import Sequence
from operator import mul

_ITERATIONS = 4  # of reweighting; more make no noticeable difference
_HUBER_DELTA = 0.1  # relative error up to which a value counts in full
# Pulls coefficients towards 0, relative to one row in which the feature is 1. It decides what the
# rows leave open, such as how a time grows with a position that was always the same.
_RIDGE = 0.003
_EPSILON = 1e-12

Row = tuple[float, ...]


def fit(rows: Sequence[Row], values: Sequence[float], weights: Sequence[float]) -> Row:
    """Non-negative coefficients whose dot product with each row approximates its value.

    Rows hold numbers from 0, values are above 0. Iteratively reweighted least squares of the
    relative errors with Huber's weights, so that a few outliers change little.
    """
    columns = list(zip(*rows, strict=True))
    rates = [value / sum(row) for value, row in zip(values, rows, strict=True)]
    coefficients = (weighted_median(rates, weights),) * len(columns)
    for _ in range(_ITERATIONS):
        expected = [dot(row, coefficients) for row in rows]
        huber = [
            weight / (mean * max(abs(value - mean), _HUBER_DELTA * mean))
            for weight, value, mean in zip(weights, values, expected, strict=True)
        ]
        coefficients = _least_squares(columns, values, huber)
    return coefficients


def dot(row: Row, coefficients: Row) -> float:
    """The dot product, and never 0."""
    total: float = sum(map(mul, row, coefficients))
    return max(_EPSILON, total)


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value with half of the weight below and half above it. Needs at least one value."""
    half, reached, value = sum(weights) / 2, 0.0, 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):  # noqa: B007
        reached += weight
        if reached >= half:
            break
    return value


def censored_quantile(values: Sequence[tuple[float, bool]], share: float) -> float:
    """The quantile of values of which some are lower bounds: (number, whether it is complete).

    Kaplan and Meier's estimate (1958): the weight of a lower bound goes in equal parts to the values
    above it. Where the quantile is above all complete values, it is the largest value. Needs at
    least one.
    """
    last = len(values) - 1
    ordered = sorted(values, key=lambda each: (each[0], not each[1]))
    weight, reached = 1.0, 0.0
    for above, (value, complete) in zip(range(last, 0, -1), ordered, strict=False):
        if complete:
            reached += weight
            if reached >= share * last + 1 - _EPSILON * len(values):
                return value
        else:
            weight += weight / above
    return ordered[-1][0]


def _least_squares(
    columns: Sequence[Row], values: Sequence[float], weights: Sequence[float]
) -> Row:
    """Non-negative coefficients: features with a negative one are removed, the worst first."""
    weighted = [list(map(mul, column, weights)) for column in columns]
    ridge = _RIDGE * sum(weights)
    gram = [[sum(map(mul, one, other)) for other in columns] for one in weighted]
    for i, row in enumerate(gram):
        row[i] += ridge
    moments = [sum(map(mul, column, values)) for column in weighted]
    kept, solution = list(range(len(columns))), list[float]()
    while kept:
        solution = _solve([[gram[i][j] for j in kept] for i in kept], [moments[i] for i in kept])
        worst = min(range(len(kept)), key=solution.__getitem__)
        if solution[worst] >= 0:
            break
        del kept[worst]
    by_index = dict(zip(kept, solution, strict=False))
    return tuple(by_index.get(i, 0.0) for i in range(len(columns)))


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a positive definite system in place, by Gaussian elimination."""
    size = len(right)
    smallest = [_EPSILON * matrix[i][i] for i in range(size)]
    for i in range(size):
        # Positive, except for rounding errors.
        matrix[i][i] = max(matrix[i][i], smallest[i])
        for k in range(i + 1, size):
            factor = matrix[k][i] / matrix[i][i]
            for j in range(i, size):
                matrix[k][j] -= factor * matrix[i][j]
            right[k] -= factor * right[i]
    for i in reversed(range(size)):
        known = sum(matrix[i][j] * right[j] for j in range(i + 1, size))
        right[i] = (right[i] - known) / matrix[i][i]
    return right
