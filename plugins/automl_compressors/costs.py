"""What a network costs as a formula of how many units of each group are kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Width(NamedTuple):
    """The size of one dimension: a constant, and so many channels a unit of each of some groups."""

    constant: int
    units: dict[int, int]


_ONE = Width(1, {})


class Cost:
    """A sum of products of widths, exact, which takes microseconds to work out."""

    def __init__(self) -> None:
        self._constant = 0
        self._linear: Counter[int] = Counter()
        self._square: Counter[tuple[int, int]] = Counter()

    def add(self, times: int, *widths: Width) -> None:
        """Add so many times the product of up to two widths."""
        first, second = (*widths, _ONE, _ONE)[:2]
        self._constant += times * first.constant * second.constant
        for one, other in ((first, second), (second, first)):
            for group, channels in one.units.items():
                self._linear[group] += times * channels * other.constant
        for group, channels in first.units.items():
            for reader, read in second.units.items():
                self._square[group, reader] += times * channels * read

    def close(self, groups: int) -> Cost:
        """Lay out what was added, for so many groups; returns itself."""
        self._weights = np.array([self._linear[group] for group in range(groups)], dtype=np.int64)
        pairs = list(self._square)
        self._first = np.array([first for first, _ in pairs], dtype=np.int64)
        self._second = np.array([second for _, second in pairs], dtype=np.int64)
        self._times = np.array([self._square[pair] for pair in pairs], dtype=np.int64)
        return self

    def of(self, units: NDArray[np.int64]) -> int:
        """Return the cost where so many units of each group are kept."""
        squares = self._times @ (units[self._first] * units[self._second])
        return self._constant + int(self._weights @ units) + int(squares)
