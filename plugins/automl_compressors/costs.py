"""What a network costs as a formula of how many units of each group are kept."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


Number = TypeVar("Number", int, float)


class Width(NamedTuple):
    """The size of one dimension: a constant, and so many channels a unit of each of some groups."""

    constant: int
    units: dict[int, int]


_ONE = Width(1, {})


class Cost(Generic[Number]):
    """A sum of products of widths, which takes microseconds to work out; exact where it is of whole numbers."""

    def __init__(self, number: type[Number]) -> None:
        self._number: type[Number] = number
        self._constant: Number = number(0)
        self._linear: dict[int, Number] = defaultdict(number)
        self._square: dict[tuple[int, int], Number] = defaultdict(number)

    def add(self, times: Number, *widths: Width) -> None:
        """Add so many times the product of up to two widths."""
        first, second = (*widths, _ONE, _ONE)[:2]
        self._constant += times * first.constant * second.constant
        for one, other in ((first, second), (second, first)):
            for group, channels in one.units.items():
                self._linear[group] += times * channels * other.constant
        for group, channels in first.units.items():
            for reader, read in second.units.items():
                self._square[group, reader] += times * channels * read

    def close(self, groups: int) -> Cost[Number]:
        """Lay out what was added, for so many groups; returns itself."""
        kind = np.int64 if self._number is int else np.float64
        self._weights = np.array([self._linear[group] for group in range(groups)], dtype=kind)
        pairs = list(self._square)
        self._first = np.array([first for first, _ in pairs], dtype=np.int64)
        self._second = np.array([second for _, second in pairs], dtype=np.int64)
        self._times = np.array([self._square[pair] for pair in pairs], dtype=kind)
        return self

    def of(self, units: NDArray[np.int64]) -> Number:
        """Return the cost where so many units of each group are kept."""
        squares = self._times @ (units[self._first] * units[self._second])
        total: Number = self._constant + self._number(self._weights @ units) + self._number(squares)
        return total
