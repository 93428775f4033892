"""How sure a comparison is: intervals, ranks, and tests that are corrected for their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.05  # below it a difference counts as found
Array = NDArray[np.float64]


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % confidence interval of the mean (Student's t); None for fewer than two values."""
    if len(values) < 2:
        return None
    mean, half = float(np.mean(values)), float(margins(np.asarray(values)[:, None])[0])
    return mean - half, mean + half


def margins(rows: Array) -> Array:
    """Return half the width of the 95 % confidence interval of each column's mean, of at least two rows."""
    from scipy.stats import t

    count = len(rows)
    return np.asarray(t.ppf(1 - LEVEL / 2, count - 1) * rows.std(axis=0, ddof=1) / np.sqrt(count))


def ranks(table: Array) -> Array:
    """Return each column's mean rank over the rows, 1 for the highest value; equals share the mean of their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(-table, axis=1).mean(axis=0))


def friedman(table: Array) -> float:
    """Return the p-value of all columns being alike, over the rows (Friedman, 1937); 1 where they are equal.

    For fewer than three columns, which that test is not for, it is Wilcoxon's.
    """
    from scipy.stats import friedmanchisquare

    if table.shape[1] < 3:
        return wilcoxon(table[:, 0], table[:, -1])
    if (table == table[:, :1]).all():
        return 1.0
    return float(friedmanchisquare(*table.T).pvalue)


def wilcoxon(first: Sequence[float] | Array, second: Sequence[float] | Array) -> float:
    """Return the p-value of pairs differing by chance alone (signed-rank test, Wilcoxon, 1945); 1 where none differ."""
    from scipy.stats import wilcoxon as signed_ranks

    differences = np.subtract(first, second)
    largest = np.abs(differences).max(initial=0.0)
    if largest == 0:
        return 1.0
    return float(signed_ranks(np.round(differences / largest, 9)).pvalue)  # rounded, so that equal ones are ties


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number (Holm, 1979)."""
    corrected = [1.0] * len(values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected


def against(baseline: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> list[float | None]:
    """Return for each of the others the corrected p-value of its difference from the baseline.

    Values are paired by their seeds; None where there is no common one, which the correction leaves out.
    """
    pairs = [sorted(baseline.keys() & other.keys()) for other in others]
    tested = [index for index, seeds in enumerate(pairs) if seeds]
    found: list[float | None] = [None] * len(others)
    values = [
        wilcoxon([others[index][seed] for seed in pairs[index]], [baseline[seed] for seed in pairs[index]])
        for index in tested
    ]
    for index, value in zip(tested, holm(values), strict=True):
        found[index] = value
    return found


def pairwise(table: Array) -> Array:
    """Return the corrected p-value of each two columns' difference, as a symmetric matrix with 1 on its diagonal."""
    count = table.shape[1]
    pairs = [(first, second) for first in range(count) for second in range(first)]
    found = np.ones((count, count))
    corrected = holm([wilcoxon(table[:, first], table[:, second]) for first, second in pairs])
    for (first, second), value in zip(pairs, corrected, strict=True):
        found[first, second] = found[second, first] = value
    return found


def seeds_needed(tests: int) -> int:
    """Return how many paired seeds it takes for the signed-rank test to find anything at all, so often tested."""
    seeds = 1
    while tests * 2.0 ** (1 - seeds) >= LEVEL:
        seeds += 1
    return seeds
