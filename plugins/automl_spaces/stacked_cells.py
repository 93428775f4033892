"""What the cell spaces have in common: one or two cells of blocks, stacked into a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from annotated_types import Ge, Lt

from automl import Architecture, BadInput, Choose, Op, Options, Task
from automl_spaces.cells import Block, Cell, Cells, canonical, edges
from automl_spaces.counted import Counted
from automl_spaces.genotypes import PAPER, Style, genotype
from automl_spaces.image_sizes import check_size
from automl_spaces.operations import named

if TYPE_CHECKING:
    from torch.nn import Module

STEMS = {"imagenet": 32, "imagenet_large": 96}


@dataclass
class StackedCells(Counted[Cells]):
    """Cells of ``blocks``, each of which makes a state of two earlier ones; the unused states are concatenated.

    ``cells`` is the number of normal cells a stage, ``channels`` the width of the first stage, doubled by each of
    the ``reductions``. ``skeleton`` says how the network begins: "cifar" with one convolution, "imagenet" with more,
    that halve the size three times; in "imagenet_large" moreover the cell after a reduction has for h[k-2] what the
    reduction had. ``stem`` is the width of what it begins with; None: what is usual. ``drop_path`` is the probability
    to drop a path of the last cell when training ends, ``auxiliary`` adds a second classifier in training.
    ``operations`` are those offered.
    """

    blocks: Annotated[int, Ge(1)] = 5
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    reductions: Annotated[int, Ge(0)] = 2
    skeleton: Literal["cifar", "imagenet", "imagenet_large"] = "cifar"
    stem: Annotated[int, Ge(1)] | None = None
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0
    auxiliary: bool = False
    operations: tuple[str, ...] = ()

    registered: ClassVar[str]  # the name that the space is registered by
    style: ClassVar[Style] = PAPER  # the customs by which sampled cells become a network

    def __post_init__(self) -> None:
        self._operations = Options(named(self.operations, self._narrowest()))
        self._operations.check("space.operations")
        self._kinds = ("normal", "reduce") if self.reductions or self.skeleton != "cifar" else ("normal",)

    def build(self, blueprint: Cells, task: Task) -> Module:
        from automl_spaces.cell_networks import CellNetwork, Plan

        self.check(task)
        style, kept = self._style(), self._kept()
        plan = Plan(
            cells=self.cells,
            channels=self.channels,
            reductions=self.reductions,
            skeleton=self.skeleton,
            stem=self._stem(style),
            drop_path=self.drop_path,
            auxiliary=self.auxiliary,
            style=style,
            keep=kept[0],
            keep_reduce=kept[1],
        )
        return CellNetwork(blueprint, plan, task.input, task.outputs)

    def check(self, task: Task) -> None:
        check_size(self.registered, task, self.reductions + (0 if self.skeleton == "cifar" else 3), self.reductions)

    def canonical(self, blueprint: Cells) -> str:
        reduce = "" if blueprint.reduce is None else canonical(blueprint.reduce)
        return f"{canonical(blueprint.normal)}/{reduce}"

    def graph(self, blueprint: Cells) -> dict[str, list[tuple[str, str, str]]]:
        """Return each cell's edges (from, to, operation) by the cell's name, for drawing it."""
        return {
            kind: edges(cell, keep)
            for kind, cell, keep in zip(("normal", "reduce"), blueprint, self._kept(), strict=True)
            if cell is not None
        }

    def _style(self) -> Style:
        return self.style

    def _kept(self) -> tuple[Sequence[int] | None, Sequence[int] | None]:
        """Return the states that the two cells put out; None: the unused ones."""
        return None, None

    def _narrowest(self) -> int:
        """Return the least channels of a cell: the stems of ImageNet begin with cells of a quarter."""
        begins_with_cells = self.skeleton != "cifar" and self.style.imagenet_stem == "cells"
        return max(1, self.channels // 4) if begins_with_cells else self.channels

    def _stem(self, style: Style) -> int:
        if self.stem is not None:
            return self.stem
        if style.imagenet_stem == "convolutions":
            return 3 * self.channels if self.skeleton == "cifar" else self.channels
        return STEMS.get(self.skeleton, 3 * self.channels)


@dataclass
class AddedCells(StackedCells):
    """Stacked cells whose blocks add what two operations make of two earlier states, which may be one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._asked = [[asked(kind, block) for block in range(self.blocks)] for kind in self._kinds]

    def describe(self, choose: Choose) -> Cells:
        cells = [decided(choose, blocks, self._operations) for blocks in self._asked]
        return Cells(cells[0], cells[1] if len(cells) > 1 else None)

    def size(self) -> int:
        """Return the number of encodings: a cell has prod over its blocks of (states)^2 operations^2."""
        return int(encodings(self.blocks, len(self.operations)) ** len(self._asked))

    def published(self, name: str) -> Architecture:
        """Return published cells, such as ``amoebanet_a``; raises BadInput for those that are not of this space.

        The network of them puts out the unused states. Some releases put out others besides: those are built by the
        space nasnet with ``genotype=NAME``.
        """
        values: dict[str, object] = {}
        for kind, cell in zip(self._kinds, genotype(name).cells(), strict=False):
            assert cell is not None, "every genotype has a reduction cell"
            if len(cell) != self.blocks:
                raise BadInput(f"genotype {name} has cells of {len(cell)} blocks: give space.blocks={len(cell)}")
            values.update(told(kind, cell))
        return self.read(values)


Asked = tuple[Options[int], tuple[str, str, str, str]]


def decided(choose: Choose, blocks: Sequence[Asked], operations: Options[Op]) -> tuple[Block, ...]:
    """Make the decisions of one cell, block by block."""
    return tuple(
        [
            Block(choose(in0, inputs), choose(in1, inputs), choose(op0, operations), choose(op1, operations))
            for inputs, (in0, in1, op0, op1) in blocks
        ]
    )


def told(kind: str, cell: Cell) -> Iterator[tuple[str, object]]:
    """Yield the decisions that a cell comes from."""
    for number, block in enumerate(cell):
        _, names = asked(kind, number)
        yield from zip(names, (block.in0, block.in1, block.op0.name, block.op1.name), strict=True)


def encodings(blocks: int, operations: int) -> int:
    """Return how many cells of so many blocks that add can be told."""
    return prod((block + 2) ** 2 * operations**2 for block in range(blocks))


def asked(kind: str, block: int) -> Asked:
    """Return the states that a block can read and the names of its decisions, made once and not for every sample."""
    stem = f"{kind}.b{block}"
    return Options(range(block + 2)), (f"{stem}.in0", f"{stem}.in1", f"{stem}.op0", f"{stem}.op1")
