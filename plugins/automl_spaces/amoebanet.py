"""The cell space of AmoebaNet: two cells of blocks that add."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from automl_spaces.stacked_cells import AddedCells

AMOEBANET_OPERATIONS = (
    "identity",
    "sep3x3",
    "sep5x5",
    "sep7x7",
    "avg3x3",
    "max3x3",
    "dilsep3x3",
    "bottleneck1x7_7x1",
)


@dataclass
class AmoebaNet(AddedCells):
    """Normal and reduction cells of five blocks that add two of eight operations (Real et al., 2019).

    The fields are those of ``nasnet``. The paper searched with cells=3 channels=24 on CIFAR-10; its networks have
    cells=6 channels=36 there, cells=4 channels=50 skeleton=imagenet and cells=6 channels=190 skeleton=imagenet_large.
    The release of A and C puts out more than the unused states, and B and D were found with more operations: all four
    are built by ``nasnet`` with ``genotype=amoebanet_a``. The defaults suit small images and a search of minutes.
    """

    operations: tuple[str, ...] = AMOEBANET_OPERATIONS

    registered: ClassVar[str] = "amoebanet"
