"""The tables of successive halving and Hyperband: how many are trained for how many steps, in whole numbers alone."""

from collections.abc import Sequence
from typing import Literal, NamedTuple


class Rung(NamedTuple):
    """So many configurations, each trained until it has done so many steps."""

    size: int
    steps: int

    def __str__(self) -> str:
        return f"{self.size}@{self.steps}"


Bracket = tuple[Rung, ...]  # from the lowest rung up


def ladder(resource: int, eta: int, lowest: int = 1) -> list[int]:
    """Return the steps of the rungs: the resource over powers of eta, down to the lowest allowed.

    Counted down, so that the last rung is the resource whether or not that is a power of eta. Halves round up; each
    rung is eta times the one before, and at least one, so that no two round to the same. Powers are counted by
    dividing: in floating point log(243) / log(3) is below 5.

    >>> ladder(81, 3), ladder(100, 3), ladder(10, 3, lowest=3)
    ([1, 3, 9, 27, 81], [1, 4, 11, 33, 100], [3, 10])
    """
    steps, power = [], 1
    while resource // power >= lowest:
        steps.append((2 * resource + power) // (2 * power))
        power *= eta
    return steps[::-1]


def halving(size: int, steps: Sequence[int], eta: int) -> Bracket:
    """Return a bracket of successive halving (Jamieson & Talwalkar, 2016): a share of 1 / eta goes on, at least one.

    >>> print(*halving(34, [3, 9, 27, 81], 3))
    34@3 11@9 3@27 1@81
    """
    return tuple([Rung(max(1, size // eta**number), each) for number, each in enumerate(steps)])


def hyperband(steps: Sequence[int], eta: int, rounding: Literal["ceil", "floor"]) -> list[Bracket]:
    """Return the brackets of Hyperband over the rungs of a ladder, that with the most configurations first.

    Bracket s, from s_max down to 0, begins with n configurations, s rungs below the top. The algorithm's line in the
    journal (Li et al., JMLR 2018) has n = ceil((s_max + 1) eta^s / (s + 1)), here "ceil"; an early version of the
    paper has floor((s_max + 1) / (s + 1)) eta^s, here "floor".
    """
    brackets = []
    for s in reversed(range(len(steps))):
        share = len(steps) * eta**s
        size = -(-share // (s + 1)) if rounding == "ceil" else len(steps) // (s + 1) * eta**s
        brackets.append(halving(size, steps[-s - 1 :], eta))
    return brackets
