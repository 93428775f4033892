"""Widths that keep to a budget: by how much each layer may be wide, and the widest alike."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from automl import BadInput

TABLE = "automl latency build --out FILE +space=NAME +compressor=NAME compressor.budget=null"  # makes one for budgets
WidthsAt = Callable[[float], Mapping[str, int]]  # of a share of all
Cost = Callable[[Mapping[str, int]], float]  # of the units kept of each group; of those not named, all


@dataclass(frozen=True)
class Budget:
    """A share of what the ``whole`` network costs that may be left, and the fewest units that each group keeps.

    Widths go up in steps: see ``Steps``. Raises BadInput where even the narrowest network costs more.
    """

    cost: Cost
    whole: float
    share: float
    least: Mapping[str, int]
    what: str

    def __post_init__(self) -> None:
        smallest = self.cost(self.least)
        if smallest > self.most:
            least = smallest / self.whole
            what = f"compressor.budget={self.share:.4g} of the {self.what} cannot be met: the narrowest network"
            if least >= 1:
                raise BadInput(
                    f"{what} that the settings allow has no fewer than the whole one; round to more by "
                    "compressor.round_to, for a device may be quicker with some widths than with less"
                )
            raise BadInput(
                f"{what} that the settings allow has {least:.4g} of them; give compressor.budget="
                f"{_above(least)}, or keep less by compressor.keep, or round to less by compressor.round_to"
            )

    @property
    def most(self) -> float:
        """What the network made smaller may cost."""
        return math.inf if self.share == 1 else self.share * self.whole

    def widest(self, group: str, decided: Mapping[str, int], widths: list[int]) -> int:
        """Return the largest of the rising widths that a group may have, later groups being as narrow as they can be.

        The action bound of AMC (He et al., 2018, algorithm 1), by exact count. The first width always fits where what
        is decided did.
        """
        rest = {**self.least, **decided}
        low, high = 0, len(widths) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if self.cost({**rest, group: widths[middle]}) <= self.most:
                low = middle
            else:
                high = middle - 1
        return widths[low]

    def alike(self, widths_at: WidthsAt) -> Mapping[str, int]:
        """Return the widths of the largest share that keep to the budget."""
        return alike(self.cost, self.most, widths_at)


def alike(cost: Cost, most: float, widths_at: WidthsAt) -> Mapping[str, int]:
    """Return the widths of the largest share of all, found by halving, that cost at most so much; else the least."""
    low, high = 0.0, 1.0
    if cost(widths_at(high)) <= most:
        return widths_at(high)
    for _ in range(40):
        middle = (low + high) / 2
        if cost(widths_at(middle)) <= most:
            low = middle
        else:
            high = middle
    return widths_at(low)


def _above(share: float) -> str:
    """Return a share of four digits that is not less."""
    return f"{min(1.0, share + 0.00005):.4f}"


@dataclass(frozen=True)
class Steps:
    """The widths that a group of so many units may have: multiples of a number of channels, and all of them."""

    units: int
    size: int  # channels a unit
    round_to: int = 1
    least: float = 0.0  # share that is always kept

    def all(self) -> list[int]:
        """Return them, rising: at least one unit, and at least ``least`` of all."""
        return list(self._all)

    @cached_property
    def _all(self) -> list[int]:
        each = -(-self.round_to // self.size)
        floor = max(1, min(self.units, int(self.least * self.units)))
        inner = [width for width in range(each, self.units, each) if width >= floor]
        return [*inner, self.units]

    def at(self, share: float) -> int:
        """Return the largest that is at most that share of all units, or the smallest there is."""
        return self._all[max(0, bisect_right(self._all, share * self.units + 1e-9) - 1)]
