"""What robust statistics the predictions need, in the standard library: NumPy imports slowly."""

from collections.abc import Sequence
from operator import mul

_ROUNDS = 4  # of reweighting; more change nothing that could be noticed
_INLIER = 0.1  # relative error up to which a value counts in full
# How strongly coefficients are drawn to 0, beside one row in which that feature is 1: it settles
# what the rows leave open, such as how a time grows with a position that was always the same.
_RIDGE = 0.003
_TINY = 1e-12

Row = tuple[float, ...]


def fit(rows: Sequence[Row], values: Sequence[float], weights: Sequence[float]) -> Row:
    """Coefficients, none negative, whose products with each row (of numbers from 0) add up to about
    its value (above 0).

    Iteratively reweighted least squares of the relative errors with Huber's weights: a few values
    that are far off change little.
    """
    columns = list(zip(*rows, strict=True))
    rates = [value / sum(row) for value, row in zip(values, rows, strict=True)]
    coefficients = (weighted_median(rates, weights),) * len(columns)
    for _ in range(_ROUNDS):
        expected = [product(row, coefficients) for row in rows]
        counted = [
            weight / (about * max(abs(value - about), _INLIER * about))
            for weight, value, about in zip(weights, values, expected, strict=True)
        ]
        coefficients = _least_squares(columns, values, counted)
    return coefficients


def product(row: Row, coefficients: Row) -> float:
    """What the coefficients make of a row; never 0."""
    found: float = sum(map(mul, row, coefficients))
    return max(_TINY, found)


def weighted_median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value below and above which lies half the weight. There is at least one."""
    half, reached, value = sum(weights) / 2, 0.0, 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):  # noqa: B007
        reached += weight
        if reached >= half:
            break
    return value


def _least_squares(
    columns: Sequence[Row], values: Sequence[float], weights: Sequence[float]
) -> Row:
    """Coefficients, none negative: those that come out so are left out, the worst first."""
    weighted = [list(map(mul, column, weights)) for column in columns]
    ridge = _RIDGE * sum(weights)
    gram = [[sum(map(mul, one, other)) for other in columns] for one in weighted]
    for i, row in enumerate(gram):
        row[i] += ridge
    moments = [sum(map(mul, column, values)) for column in weighted]
    kept, found = list(range(len(columns))), list[float]()
    while kept:
        found = _solved([[gram[i][j] for j in kept] for i in kept], [moments[i] for i in kept])
        worst = min(range(len(kept)), key=found.__getitem__)
        if found[worst] >= 0:
            break
        del kept[worst]
    by_index = dict(zip(kept, found, strict=False))
    return tuple(by_index.get(i, 0.0) for i in range(len(columns)))


def _solved(matrix: list[list[float]], right: list[float]) -> list[float]:
    """The solution of a positive definite system, by elimination, in place."""
    size = len(right)
    smallest = [_TINY * matrix[i][i] for i in range(size)]
    for i in range(size):
        # Above 0, but for rounding.
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
