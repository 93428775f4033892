"""The cell space of NASNet: two cells of five blocks, stacked into a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from automl import Choose, Options
from automl_spaces.cells import Block, Cells
from automl_spaces.genotypes import Style, genotype
from automl_spaces.operations import NASNET_OPERATIONS
from automl_spaces.stacked_cells import StackedCells

COMBINE = Options(("add", "concat"))


@dataclass
class NASNet(StackedCells):
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

    operations: tuple[str, ...] = NASNET_OPERATIONS
    genotype: str | None = None

    registered: ClassVar[str] = "nasnet"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._published = None if self.genotype is None else genotype(self.genotype)
        self._fixed = None if self._published is None else self._published.cells()
        self._asked = [[_names(kind, block) for block in range(self.blocks)] for kind in self._kinds]

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

    def size(self) -> int:
        """Return the number of encodings: a cell has prod over its blocks of (states)^2 operations^2 x 2."""
        if self.genotype is not None:
            return 1
        cell = prod((block + 2) ** 2 * len(self.operations) ** 2 * COMBINE.count for block in range(self.blocks))
        return int(cell ** len(self._asked))

    def _style(self) -> Style:
        return self.style if self._published is None else self._published.style

    def _kept(self) -> tuple[Sequence[int] | None, Sequence[int] | None]:
        return (None, None) if self._published is None else (self._published.keep, self._published.keep_reduce)


def _names(kind: str, block: int) -> tuple[Options[int], tuple[str, str, str, str, str]]:
    """Return the states that a block can read and the names of its decisions, made once and not for every sample."""
    stem = f"{kind}.b{block}"
    names = (f"{stem}.in0", f"{stem}.in1", f"{stem}.op0", f"{stem}.op1", f"{stem}.combine")
    return Options(range(block + 2)), names
