"""Cells as data: blocks that combine two earlier states each, their canonical form and their graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from automl import Op

NEWER, OLDER = 0, 1  # the states that a cell is given: the outputs of the last cell and of the one before it


class Block(NamedTuple):
    """A new state: one operation on each of two earlier states, added, or concatenated and brought back to width.

    States are counted in release order: 0 is the output of the last cell, h[k-1]; 1 that of the one before it,
    h[k-2]; 2 the first block. In a network that holds every choice at once, ``more`` has further states and operations.
    """

    in0: int
    in1: int
    op0: Op
    op1: Op
    combine: str = "add"
    more: tuple[tuple[int, Op], ...] = ()

    @property
    def sides(self) -> list[tuple[int, Op]]:
        """The states that it reads, each with the operation on it."""
        return [(self.in0, self.op0), (self.in1, self.op1), *self.more]


Cell = Sequence[Block]


class Cells(NamedTuple):
    """The blueprint of a cell network: a cell that keeps the size, and one that halves it (None where none does)."""

    normal: Cell
    reduce: Cell | None


def unused(cell: Cell) -> list[int]:
    """Return the states that no block reads, the inputs among them: what the cell's output is concatenated from."""
    used = {state for block in cell for state, _ in block.sides}
    return [state for state in range(len(cell) + 2) if state not in used]


def canonical(cell: Cell) -> str:
    """Return one text for all orders in which the blocks of one cell, and the two sides of a block, can be told.

    It is the smallest over all orders that tell a block after those it reads. Blocks are never merged: two that
    do the same to the same states are two, with weights of their own. Concatenation counts as commutative too:
    the sides swapped are the same network with the channels of the next 1 x 1 convolution permuted.
    """
    sides = [
        (block.in0, block.op0.name, block.in1, block.op1.name, "" if block.combine == "add" else "|") for block in cell
    ]
    return ";".join(_smallest(sides, {NEWER: 0, OLDER: 1}, list(range(len(cell)))))


def _smallest(sides: list[tuple[int, str, int, str, str]], labels: Mapping[int, int], left: Sequence[int]) -> list[str]:
    """Return the smallest telling of the blocks left, given the labels of the states already told."""
    told: list[str] = []
    labels, left = dict(labels), list(left)
    while left:
        smallest = ""
        ties: list[int] = []
        for block in left:
            in0, op0, in1, op1, combine = sides[block]
            if in0 in labels and in1 in labels:
                first, second = f"{labels[in0]}{op0}", f"{labels[in1]}{op1}"
                text = f"{first}+{second}{combine}" if first <= second else f"{second}+{first}{combine}"
                if not ties or text < smallest:
                    smallest, ties = text, [block]
                elif text == smallest:
                    ties.append(block)
        told.append(smallest)
        if len(ties) > 1:  # only their readers tell them apart
            read = {state for block in left for state in (sides[block][0], sides[block][2])}
            if any(tie + 2 in read for tie in ties):
                return told + min(_smallest(sides, *_tell(tie, labels, left)) for tie in ties)
        labels[ties[0] + 2] = len(labels)
        left.remove(ties[0])
    return told


def _tell(block: int, labels: Mapping[int, int], left: Sequence[int]) -> tuple[dict[int, int], list[int]]:
    return {**labels, block + 2: len(labels)}, [other for other in left if other != block]


def edges(cell: Cell, keep: Sequence[int] | None = None) -> list[tuple[str, str, str]]:
    """Return the cell's edges as (from, to, operation), the states named h[k-1], h[k-2], 0, 1, ..., output."""
    names = ["h[k-1]", "h[k-2]", *(str(index) for index in range(len(cell)))]
    drawn = []
    for index, block in enumerate(cell):
        drawn += [(names[state], str(index), op.name) for state, op in block.sides]
    return drawn + [(names[state], "output", "") for state in (unused(cell) if keep is None else keep)]
