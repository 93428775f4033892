"""What goes together: numbers that are joined by pairs, and those that are matched so that equal parts stay equal."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


def connected(number: int, ones: ArrayLike, others: ArrayLike) -> NDArray[np.int64]:
    """Return for each of the numbers below ``number`` that of its part, where pairs are joined."""
    ones, others = np.asarray(ones, dtype=np.int64), np.asarray(others, dtype=np.int64)
    graph = coo_array((np.ones(len(ones), dtype=np.int8), (ones, others)), shape=(number, number))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def matched(table: NDArray[np.int64], stays: int) -> tuple[list[int], list[int]]:
    """Return pairs of units to be joined so that each is as often in every row of the table.

    Units that are in one row only go with those that are as often, and as early, in the other rows alone; those that
    are in several with others that make up for them; what is left goes as one, or stays with what ``stays``. Where all
    are on their own, this is what stands in one column.
    """
    found, first, places = np.unique(table, return_index=True, return_inverse=True)
    counts = np.zeros((len(found), len(table)), dtype=np.int64)
    np.add.at(counts, (places.reshape(table.shape), np.arange(len(table))[:, None]), 1)
    waiting: dict[tuple[int, ...], list[int]] = defaultdict(list)  # by how often in each row
    for unit in np.argsort(first % table.shape[1], kind="stable"):
        if found[unit] != stays and (counts[unit] != counts[unit, 0]).any():
            waiting[tuple(counts[unit].tolist())].append(int(found[unit]))
    joined: list[list[int]] = []
    rows = len(table)
    for times in sorted({max(often) for often in waiting}):
        alone = [waiting[tuple(times if row == other else 0 for other in range(rows))] for row in range(rows)]
        least = min(map(len, alone))
        joined += [[units[turn] for units in alone] for turn in range(least)]
        for units in alone:
            del units[:least]
    for often in list(waiting):
        for other in waiting:
            sums = {one + two for one, two in zip(often, other, strict=True)}
            if often < other and len(sums) == 1:
                pairs = list(zip(waiting[often], waiting[other], strict=False))
                joined += map(list, pairs)
                del waiting[often][: len(pairs)], waiting[other][: len(pairs)]
    rest = [unit for units in waiting.values() for unit in units]
    left = sum((len(units) * np.array(often) for often, units in waiting.items()), np.zeros(rows, dtype=np.int64))
    joined.append(rest if (left == left[0]).all() else [stays, *rest])
    return [units[0] for units in joined for _ in units[1:]], [unit for units in joined for unit in units[1:]]
