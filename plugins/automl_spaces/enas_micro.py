"""The micro space of ENAS: two cells of blocks that add, of five operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from automl_spaces.genotypes import ENAS, Style
from automl_spaces.stacked_cells import AddedCells

ENAS_OPERATIONS = ("sep3x3", "sep5x5", "avg3x3", "max3x3", "identity")


@dataclass
class ENASMicro(AddedCells):
    """Normal and reduction cells of five blocks that add two of five operations (Pham et al., 2018).

    The fields are those of ``nasnet``. The paper searched with shared weights (``evaluator=supernet
    strategy=reinforce``), cells=2 and channels=20; its network has cells=5 channels=36. States are counted as
    elsewhere here: 0 is the output of the last cell, 1 that of the one before it; the release has them the other way
    round. ``published`` translates its cells, and those of NAONet-WS, which were found in this space too. The
    defaults suit small images and a search of minutes.
    """

    operations: tuple[str, ...] = ENAS_OPERATIONS

    registered: ClassVar[str] = "enas_micro"
    style: ClassVar[Style] = ENAS
