"""The cell space of progressive search: one cell, of one to five blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from annotated_types import Ge

from automl import Architecture, BadInput, Choose
from automl_spaces.cells import Cells, canonical, edges
from automl_spaces.genotypes import PNASNET, Style, genotype
from automl_spaces.stacked_cells import StackedCells, asked, decided, encodings, told
from automl_spaces.uniform import Uniform, weighed

PNAS_OPERATIONS = ("sep3x3", "sep5x5", "sep7x7", "conv1x7_7x1", "identity", "avg3x3", "max3x3", "dilated3x3")


@dataclass
class PNAS(StackedCells):
    """One cell of blocks that add two of eight operations; with strides it is the reduction cell (Liu et al., 2018).

    A cell has from ``least`` to ``blocks`` blocks, a decision where these differ. A cell is expanded by
    ``enumerate({**values, "cell.blocks": more})``, which runs through all cells that begin with it. The other fields
    are those of ``nasnet``; a reduction is the first of a stage's ``cells``.

    ``uniform`` says what random architectures are drawn uniformly from: the options of each decision, by which small
    cells are common, or all ``architectures``, of which most are large.

    The paper searched with cells=2 channels=24 on CIFAR-10, progressively, from one block to five; its networks have
    cells=3 channels=48 there, cells=3 channels=54 skeleton=imagenet and cells=4 channels=216
    skeleton=imagenet_large; they put out one state besides the unused ones, and are built by ``nasnet`` with
    ``genotype=pnasnet_5``. The defaults suit small images and a search of minutes.
    """

    operations: tuple[str, ...] = PNAS_OPERATIONS
    least: Annotated[int, Ge(1)] = 1
    uniform: Uniform = "decisions"

    registered: ClassVar[str] = "pnas"
    style: ClassVar[Style] = PNASNET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least > self.blocks:
            raise BadInput(
                f"space.least={self.least} is more than the space.blocks={self.blocks} that a cell has at most: "
                f"give at most {self.blocks}, or space.blocks={self.least}"
            )
        levels = range(self.least, self.blocks + 1)
        self._levels = weighed(self.uniform, levels, [encodings(blocks, len(self.operations)) for blocks in levels])
        self._asked = [asked("cell", block) for block in range(self.blocks)]

    def describe(self, choose: Choose) -> Cells:
        blocks = choose(BLOCKS, self._levels) if self._levels.count > 1 else self.blocks
        cell = decided(choose, self._asked[:blocks], self._operations)
        return Cells(cell, cell if len(self._kinds) > 1 else None)

    def canonical(self, blueprint: Cells) -> str:
        return canonical(blueprint.normal)

    def size(self) -> int:
        """Return the number of encodings: of all levels, each prod over its blocks of (states)^2 operations^2."""
        return sum(encodings(blocks, len(self.operations)) for blocks in self._levels)

    def graph(self, blueprint: Cells) -> dict[str, list[tuple[str, str, str]]]:
        """Return the cell's edges (from, to, operation) by its name, for drawing it."""
        return {"cell": edges(blueprint.normal)}

    def published(self, name: str) -> Architecture:
        """Return a published cell, ``pnasnet_5``; raises BadInput for cells that are not of this space."""
        normal, reduce = genotype(name).cells()
        if normal != reduce:
            raise BadInput(f"genotype {name} has two cells, and space pnas one: give pnasnet_5")
        values = dict(told("cell", normal))
        return self.read({BLOCKS: len(normal), **values} if self._levels.count > 1 else values)


BLOCKS = "cell.blocks"
