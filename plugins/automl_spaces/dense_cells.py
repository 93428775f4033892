"""Cells in which every two of four nodes are joined by an edge, and each of the six edges has an operation."""

from __future__ import annotations

from automl import Choose, Op, Options

NODES = ("input", "1", "2", "output")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))  # from, to
DECISIONS = tuple(f"edge{source}{target}.op" for source, target in EDGES)  # each its own group when cells are crossed

DenseCell = tuple[Op, ...]  # the operation of each edge, in the order of EDGES


def decide(choose: Choose, operations: Options[Op]) -> DenseCell:
    """Choose the operation of each edge."""
    return tuple([choose(name, operations) for name in DECISIONS])


def edges(cell: DenseCell) -> list[tuple[str, str, str]]:
    """Return the cell's edges as (from, to, operation), without those that carry nothing."""
    return [
        (NODES[source], NODES[target], op.name)
        for (source, target), op in zip(EDGES, cell, strict=True)
        if op.name != "none"
    ]
