"""The cell space of NAO's first stage: two cells of blocks that add, of nineteen operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from automl_spaces.genotypes import ENAS, Style
from automl_spaces.stacked_cells import AddedCells

NAO_OPERATIONS = (
    "identity",
    "conv1x1",
    "conv3x3",
    "conv1x3_3x1",
    "conv1x7_7x1",
    "max2x2",
    "max3x3",
    "max5x5",
    "max7x7",
    "min2x2",
    "avg2x2",
    "avg3x3",
    "avg5x5",
    "sep3x3",
    "sep5x5",
    "sep7x7",
    "dilsep3x3",
    "dilsep5x5",
    "dilsep7x7",
)


@dataclass
class NAO(AddedCells):
    """Normal and reduction cells of five blocks that add two of nineteen operations (Luo et al., 2018).

    The fields are those of ``nasnet``. An operation is one decision here, where the paper has a token for its kind
    and one for its size. ``published`` gives the cells of NAONet, which has cells=6 channels=36 and channels=128 on
    CIFAR-10. The defaults suit small images and a search of minutes.
    """

    operations: tuple[str, ...] = NAO_OPERATIONS

    registered: ClassVar[str] = "nao"
    style: ClassVar[Style] = ENAS
