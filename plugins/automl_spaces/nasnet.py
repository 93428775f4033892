"""The cell space of NASNet: two cells of five blocks, stacked into a network."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Ge, Lt

from automl import Choose, Options, Space, Task
from automl_spaces.cells import Block, Cells, canonical, edges
from automl_spaces.genotypes import PAPER, genotype
from automl_spaces.image_sizes import check_size
from automl_spaces.operations import NASNET_OPERATIONS, named

if TYPE_CHECKING:
    from torch.nn import Module

COMBINE = Options(("add", "concat"))
STEMS = {"imagenet": 32, "imagenet_large": 96}


@dataclass
class NASNet(Space[Cells]):
    """Normal and reduction cells of blocks that combine two earlier states (Zoph et al., 2018).

    ``cells`` is the number of normal cells a stage, ``channels`` the width of the first stage, doubled by each of
    the ``reductions``. ``skeleton`` says how the network begins: "cifar" with one convolution, "imagenet" with one
    and two reduction cells that halve the size three times; in "imagenet_large" moreover the cell after a reduction
    has for h[k-2] what the reduction had. ``stem`` is the width of that first convolution: by default 3 x channels,
    32 and 96. ``drop_path`` is the probability to drop a path of the last cell when training ends, ``auxiliary``
    adds a second classifier in training. ``operations`` are those offered; ``genotype`` fixes published cells, such
    as ``nasnet_a``, so that nothing is left to decide.

    The published search had 5 blocks, cells=2 and channels=32 on CIFAR-10; its networks there cells=6 channels=32,
    drop_path 0.4 and an auxiliary head; on ImageNet cells=4 channels=44 skeleton=imagenet and cells=6 channels=168
    skeleton=imagenet_large. The defaults suit small images and a search of minutes.
    """

    blocks: Annotated[int, Ge(1)] = 5
    cells: Annotated[int, Ge(1)] = 1
    channels: Annotated[int, Ge(1)] = 8
    reductions: Annotated[int, Ge(0)] = 2
    skeleton: Literal["cifar", "imagenet", "imagenet_large"] = "cifar"
    stem: Annotated[int, Ge(1)] | None = None
    drop_path: Annotated[float, Ge(0), Lt(1)] = 0.0
    auxiliary: bool = False
    operations: tuple[str, ...] = NASNET_OPERATIONS
    genotype: str | None = None

    def __post_init__(self) -> None:
        operations = named(self.operations, self._narrowest())
        self._published = None if self.genotype is None else genotype(self.genotype)
        self._fixed = None if self._published is None else self._published.cells()
        self._operations = Options(operations)
        self._operations.check("space.operations")
        kinds = ("normal", "reduce") if self.reductions or self.skeleton != "cifar" else ("normal",)
        self._asked = [[_names(kind, block) for block in range(self.blocks)] for kind in kinds]

    def describe(self, choose: Choose) -> Cells:
        if self._fixed is not None:
            return self._fixed
        operations = self._operations
        cells = [
            tuple(
                [
                    Block(
                        choose(in0, inputs),
                        choose(in1, inputs),
                        choose(op0, operations),
                        choose(op1, operations),
                        choose(combine, COMBINE),
                    )
                    for inputs, (in0, in1, op0, op1, combine) in blocks
                ]
            )
            for blocks in self._asked
        ]
        return Cells(cells[0], cells[1] if len(cells) > 1 else None)

    def build(self, blueprint: Cells, task: Task) -> Module:
        from automl_spaces.cell_networks import CellNetwork, Plan

        self.check(task)
        published = self._published
        plan = Plan(
            cells=self.cells,
            channels=self.channels,
            reductions=self.reductions,
            skeleton=self.skeleton,
            stem=self._stem(),
            drop_path=self.drop_path,
            auxiliary=self.auxiliary,
            style=PAPER if published is None else published.style,
            keep=None if published is None else published.keep,
            keep_reduce=None if published is None else published.keep_reduce,
        )
        return CellNetwork(blueprint, plan, task.input, task.outputs)

    def check(self, task: Task) -> None:
        check_size("nasnet", task, self.reductions + (0 if self.skeleton == "cifar" else 3), self.reductions)

    def canonical(self, blueprint: Cells) -> str:
        reduce = "" if blueprint.reduce is None else canonical(blueprint.reduce)
        return f"{canonical(blueprint.normal)}/{reduce}"

    def size(self) -> int:
        """Return the number of encodings: a cell has prod over its blocks of (states)^2 operations^2 x 2."""
        if self.genotype is not None:
            return 1
        cell = prod((block + 2) ** 2 * len(self.operations) ** 2 * COMBINE.count for block in range(self.blocks))
        return int(cell ** len(self._asked))

    def graph(self, blueprint: Cells) -> dict[str, list[tuple[str, str, str]]]:
        """Return each cell's edges (from, to, operation) by the cell's name, for drawing it."""
        published = self._published
        drawn = {"normal": edges(blueprint.normal, None if published is None else published.keep)}
        if blueprint.reduce is not None:
            drawn["reduce"] = edges(blueprint.reduce, None if published is None else published.keep_reduce)
        return drawn

    def _narrowest(self) -> int:
        """Return the least channels of a cell: the stems of ImageNet begin with cells of a quarter."""
        return self.channels if self.skeleton == "cifar" else max(1, self.channels // 4)

    def _stem(self) -> int:
        if self.stem is not None:
            return self.stem
        if self._published is not None and self._published.style.imagenet_stem == "convolutions":
            return 3 * self.channels if self.skeleton == "cifar" else self.channels
        return STEMS.get(self.skeleton, 3 * self.channels)


def _names(kind: str, block: int) -> tuple[Options[int], tuple[str, str, str, str, str]]:
    """Return the states that a block can read and the names of its decisions, made once and not for every sample."""
    stem = f"{kind}.b{block}"
    names = (f"{stem}.in0", f"{stem}.in1", f"{stem}.op0", f"{stem}.op1", f"{stem}.combine")
    return Options(range(block + 2)), names
