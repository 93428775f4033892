"""Published cells, as data in the notation of their papers' releases, by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from automl import BadInput, Op
from automl.errors import near_miss
from automl_spaces.cells import Block, Cells
from automl_spaces.operations import OPERATIONS


@dataclass(frozen=True)
class Style:
    """The customs of a release, which the networks of its cells differ by beyond the cells.

    ``newer`` and ``older`` say when the two inputs of a cell go through a ReLU, a 1 x 1 convolution and batch
    normalisation: always, where their width is not the cell's, or both one after the other. ``first_older`` is
    what the first cell has for h[k-2]: nothing, which means h[k-1] as it comes, or the stem. ``reduces`` says
    whether a reduction cell is one more cell between two stages or the first of a stage.
    """

    newer: Literal["always", "where needed", "both"] = "always"
    older: Literal["always", "where needed"] = "where needed"
    first_older: Literal["nothing", "stem"] = "nothing"
    imagenet_stem: Literal["cells", "convolutions"] = "cells"
    reduces: Literal["between stages", "in stages"] = "between stages"
    activates_last: bool = True  # a ReLU before the global pooling
    classifier_bias: bool = True


PAPER = Style(first_older="stem")  # what the sampled cells of NASNet are built by
RELEASE = Style()  # NASNet and AmoebaNet
PNASNET = Style(reduces="in stages")
DARTS = Style(older="always", first_older="stem", imagenet_stem="convolutions", activates_last=False)
ENAS = Style(newer="both", first_older="stem", imagenet_stem="convolutions", classifier_bias=False)  # and NAO


@dataclass(frozen=True)
class Genotype:
    """A published pair of cells.

    A cell is written as its blocks, ``op(state) + op(state) | ...``. ``order`` says which input is state 0: the
    newer h[k-1], or the older h[k-2]. ``keep`` has the states that are concatenated; None: the unused ones. A
    paper with a single cell has no ``reduce``: its reduction cell is the same with strides.
    """

    paper: str
    order: Literal["newer first", "older first"]
    normal: str
    reduce: str | None
    keep: tuple[int, ...] | None = None
    keep_reduce: tuple[int, ...] | None = None
    style: Style = RELEASE

    def cells(self) -> Cells:
        """Return the cells as a blueprint, in release order."""
        return Cells(self._parse(self.normal), self._parse(self.normal if self.reduce is None else self.reduce))

    def _parse(self, text: str) -> tuple[Block, ...]:
        blocks = []
        for block in text.split("|"):
            (op0, in0), (op1, in1) = (_side(side) for side in block.split("+"))
            blocks.append(Block(self._state(in0), self._state(in1), op0, op1))
        return tuple(blocks)

    def _state(self, state: int) -> int:
        return 1 - state if self.order == "older first" and state < 2 else state


def _side(text: str) -> tuple[Op, int]:
    match = re.fullmatch(r"(\w+)\((\d+)\)", text.strip())
    assert match is not None, text
    return OPERATIONS[match[1]], int(match[2])


def _arc(text: str) -> str:
    """Translate an arc, (state, operation) twice a block, of the ENAS release into blocks."""
    names = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")
    arc = [int(number) for number in text.split()]
    sides = [f"{names[op]}({state})" for state, op in zip(arc[::2], arc[1::2], strict=True)]
    return " | ".join(f"{left} + {right}" for left, right in zip(sides[::2], sides[1::2], strict=True))


GENOTYPES: Mapping[str, Genotype] = {
    "nasnet_a": Genotype(
        "Zoph et al., 2018",
        "newer first",
        normal="sep5x5(0) + sep3x3(1) | sep5x5(1) + sep3x3(1) | avg3x3(0) + identity(1) | avg3x3(1) + avg3x3(1)"
        " | sep3x3(0) + identity(0)",
        keep=(1, 2, 3, 4, 5, 6),
        reduce="sep5x5(0) + sep7x7(1) | max3x3(0) + sep7x7(1) | avg3x3(0) + sep5x5(1) | identity(3) + avg3x3(2)"
        " | sep3x3(2) + max3x3(0)",
        keep_reduce=(3, 4, 5, 6),
    ),
    "pnasnet_5": Genotype(
        "Liu et al., 2018",
        "newer first",
        normal="sep5x5(1) + max3x3(1) | sep7x7(0) + max3x3(0) | sep5x5(0) + sep3x3(0) | sep3x3(4) + max3x3(0)"
        " | sep3x3(1) + identity(0)",
        keep=(2, 3, 4, 5, 6),
        reduce=None,
        keep_reduce=(2, 3, 4, 5, 6),
        style=PNASNET,
    ),
    "amoebanet_a": Genotype(
        "Real et al., 2019",
        "newer first",
        normal="avg3x3(0) + max3x3(0) | sep3x3(1) + identity(1) | identity(0) + avg3x3(1) | sep3x3(0) + sep5x5(2)"
        " | avg3x3(5) + sep3x3(0)",
        keep=(1, 3, 4, 6),
        reduce="sep3x3(1) + avg3x3(0) | max3x3(0) + sep7x7(2) | max3x3(1) + max3x3(0)"
        " | sep3x3(4) + bottleneck1x7_7x1(0) | avg3x3(1) + sep7x7(0)",
        keep_reduce=(2, 3, 4, 5, 6),
    ),
    "amoebanet_b": Genotype(
        "Real et al., 2019",
        "newer first",
        normal="conv1x1(1) + max3x3(1) | identity(1) + sep3x3(0) | conv1x1(1) + sep3x3(0) | conv1x1(2) + identity(2)"
        " | avg3x3(1) + conv1x1(5)",
        keep=(0, 3, 4, 6),
        reduce="max2x2(0) + max3x3(0) | identity(2) + bottleneck3x3(1) | dilsep5x5_twice(2) + max3x3(2)"
        " | identity(3) + sep3x3(1) | avg3x3(4) + conv1x1(3)",
        keep_reduce=(5, 6),
    ),
    "amoebanet_c": Genotype(
        "Real et al., 2019",
        "newer first",
        normal="avg3x3(0) + sep3x3(0) | identity(0) + sep3x3(0) | avg3x3(2) + sep3x3(1) | identity(0) + sep3x3(1)"
        " | avg3x3(3) + sep3x3(0)",
        keep=(1, 2, 4, 5, 6),
        reduce="max3x3(0) + max3x3(0) | sep7x7(2) + sep3x3(0) | sep7x7(0) + max3x3(1) | sep5x5(4) + sep5x5(4)"
        " | max3x3(1) + sep3x3(1)",
        keep_reduce=(0, 2, 3, 4, 5, 6),
    ),
    "amoebanet_d": Genotype(
        "Real et al., 2019",
        "newer first",
        normal="conv1x1(1) + max3x3(1) | identity(1) + bottleneck1x7_7x1(0) | conv1x1(0) + bottleneck1x7_7x1(0)"
        " | max3x3(2) + identity(2) | avg3x3(1) + conv1x1(5)",
        keep=(0, 3, 4, 6),
        reduce="max2x2(0) + max3x3(0) | identity(2) + bottleneck3x3(1) | bottleneck1x7_7x1(2) + max3x3(2)"
        " | identity(3) + max2x2(1) | avg3x3(2) + conv1x1(3)",
        keep_reduce=(4, 5, 6),
    ),
    "darts_v1": Genotype(
        "Liu et al., 2019",
        "older first",
        normal="sep3x3(1) + sep3x3(0) | skip(0) + sep3x3(1) | skip(0) + sep3x3(1) | sep3x3(0) + skip(2)",
        keep=(2, 3, 4, 5),
        reduce="max3x3(0) + max3x3(1) | skip(2) + max3x3(0) | max3x3(0) + skip(2) | skip(2) + avg3x3(0)",
        keep_reduce=(2, 3, 4, 5),
        style=DARTS,
    ),
    "darts_v2": Genotype(
        "Liu et al., 2019",
        "older first",
        normal="sep3x3(0) + sep3x3(1) | sep3x3(0) + sep3x3(1) | sep3x3(1) + skip(0) | skip(0) + dilsep3x3(2)",
        keep=(2, 3, 4, 5),
        reduce="max3x3(0) + max3x3(1) | skip(2) + max3x3(1) | max3x3(0) + skip(2) | skip(2) + max3x3(1)",
        keep_reduce=(2, 3, 4, 5),
        style=DARTS,
    ),
    "enas": Genotype(
        "Pham et al., 2018",
        "older first",
        normal=_arc("0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1"),
        reduce=_arc("1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"),
        style=ENAS,
    ),
    "naonet_ws": Genotype(
        "Luo et al., 2018",
        "older first",
        normal=_arc("0 1 0 4 2 2 1 3 1 0 2 0 2 3 1 3 1 2 0 4"),
        reduce=_arc("1 1 0 3 2 3 2 3 1 0 0 1 0 4 2 4 2 3 2 3"),
        style=ENAS,
    ),
    "naonet": Genotype(
        "Luo et al., 2018",
        "older first",
        normal="conv3x3(0) + avg5x5(1) | conv1x3_3x1(2) + conv3x3(1) | conv1x1(0) + conv3x3(1)"
        " | conv1x3_3x1(0) + conv3x3(4) | identity(1) + conv3x3(0)",
        reduce="conv3x3(0) + avg2x2(1) | conv1x1(0) + avg3x3(0) | conv1x7_7x1(1) + max2x2(0) | avg3x3(0) + conv1x1(2)"
        " | max3x3(1) + conv3x3(0)",
        style=ENAS,
    ),
}


def genotype(name: str) -> Genotype:
    """Return the published cells of that name; raises BadInput, listing the names, where there are none."""
    if name not in GENOTYPES:
        raise BadInput(
            f"space.genotype={name} names no published cells{near_miss(name, GENOTYPES)}; there are: "
            f"{', '.join(GENOTYPES)}"
        )
    return GENOTYPES[name]
