"""The published searches by morphisms: what each begins with, and its operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from automl import BadInput
from automl_spaces.morphism_operators import (
    Branch,
    Deepen,
    Enlarge,
    Multiply,
    NextWidth,
    Operator,
    Prune,
    Remove,
    Separate,
    Skip,
)
from automl_spaces.morphism_templates import Cells, Chain, DenseChain, Template

if TYPE_CHECKING:
    from automl_spaces.morphisms import Morphisms


class Family(NamedTuple):
    """What a search begins with, and its operators by name."""

    template: Template
    operators: Mapping[str, Operator]


def _nash(space: Morphisms) -> Family:
    return Family(Chain(space.filters), _growing(space.most))


def _lemonade(space: Morphisms) -> Family:
    return Family(Chain(space.filters), {**_growing(space.most), **_SHRINKING})


def _lemonade_cells(space: Morphisms) -> Family:
    return Family(_cells(space), {**_growing(_most_at_first(space)), **_SHRINKING})


def _eas(space: Morphisms) -> Family:
    widths = tuple(width for width in space.widths if width <= space.most)
    if not widths:
        raise BadInput(f"space.widths are all more than space.most={space.most}: give space.most={space.widths[0]}")
    operators = {"deepen": Deepen((1, 3, 5), space.most), "widen": NextWidth(widths, space.units)}
    return Family(DenseChain(space.filters, space.units[0]), operators)


def _wistuba(space: Morphisms) -> Family:
    most = _most_at_first(space)
    operators: dict[str, Operator] = {
        "deepen": Deepen((3, 5), most),
        "branch": Branch(),
        "add": Skip("add"),
        "widen": Multiply((2,), most),
        "kernel": Enlarge((3, 5, 7)),
        "separate": Separate(),
    }
    return Family(_cells(space), operators)


def _growing(most: int) -> dict[str, Operator]:
    return {
        "deepen": Deepen((3, 5), most),
        "widen": Multiply((2, 4), most),
        "add": Skip("add"),
        "concat": Skip("concat"),
    }


_SHRINKING: Mapping[str, Operator] = {"remove": Remove(), "prune": Prune((0.5, 0.25)), "separate": Separate()}


def _most_at_first(space: Morphisms) -> int:
    """Return the most filters of a convolution in the first stage, so that the widest stage has no more than told."""
    return space.most * space.filters[0] // max(space.filters)


def _cells(space: Morphisms) -> Cells:
    first = space.filters[0]
    if odd := [filters for filters in space.filters if filters % first]:
        raise BadInput(
            f"space.filters has {odd[0]}, no multiple of the first, {first}, by which a cell of "
            f"space.family={space.family} is made wider: give {max(1, odd[0] // first) * first}"
        )
    return Cells(space.filters, space.cells)


FAMILIES: Mapping[str, Callable[[Morphisms], Family]] = {
    "nash": _nash,
    "lemonade": _lemonade,
    "lemonade_cells": _lemonade_cells,
    "eas": _eas,
    "wistuba": _wistuba,
}
