"""Networks of cells: a stem, stages of normal cells with reduction cells between them, a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from automl_networks.auxiliary import AuxiliaryHead
from automl_spaces.cell_modules import CellModule, Map
from automl_spaces.cells import Cells
from automl_spaces.genotypes import Style

Skeleton = Literal["cifar", "imagenet", "imagenet_large"]


@dataclass(frozen=True)
class Plan:
    """How cells become a network: fields of ``NASNet``, and the customs of the release that the cells are from.

    ``keep`` and ``keep_reduce`` are the states that the two cells put out; None: the unused ones.
    """

    cells: int
    channels: int
    reductions: int
    skeleton: Skeleton
    stem: int
    drop_path: float
    auxiliary: bool
    style: Style
    keep: Sequence[int] | None
    keep_reduce: Sequence[int] | None

    @property
    def begins_with_cells(self) -> bool:
        """Whether the stem ends in two reduction cells."""
        return self.skeleton != "cifar" and self.style.imagenet_stem == "cells"

    def layers(self) -> list[Layer]:
        """Return where each cell of the network stands, in order."""
        width = self.channels
        between = self.style.reduces == "between stages"
        stays = between and self.skeleton == "imagenet_large"
        layers = []
        if self.begins_with_cells:
            layers = [Layer(True, max(1, width // 4)), Layer(True, max(1, width // 2))]
        layers += [Layer(False, width)] * self.cells
        for _ in range(self.reductions):
            width *= 2
            layers.append(Layer(True, width, stays))
            layers += [Layer(False, width)] * (self.cells if between else self.cells - 1)
        return layers


class Layer(NamedTuple):
    """A cell's place: whether it halves the size, its width, and whether h[k-2] stays the next cell's h[k-2]."""

    reduce: bool
    width: int
    stays: bool = False


class CellNetwork(nn.Module):
    """Images to logits, N x outputs; to (logits, auxiliary logits) in training where there is an auxiliary head.

    The head, which stands after two thirds of the cells, may be taken away: ``auxiliary_head`` set to None.
    """

    def __init__(self, blueprint: Cells, plan: Plan, image: tuple[int, int, int], outputs: int) -> None:
        super().__init__()
        layers = plan.layers()
        self.stays = [layer.stays for layer in layers]
        self.middle = 2 * len(layers) // 3
        self.stem, older, newer = _stem(plan, image[0])
        self.cells = nn.ModuleList()
        self.auxiliary_head: AuxiliaryHead | None = None
        for index, layer in enumerate(layers):
            described = blueprint.reduce if layer.reduce else blueprint.normal
            assert described is not None, "no reduction cell was described"
            keep = plan.keep_reduce if layer.reduce else plan.keep
            depth = (index + 1) / len(layers)
            cell = CellModule(
                described, newer, older, layer.width, layer.reduce, plan.style, keep, plan.drop_path, depth
            )
            older, newer = older if layer.stays else newer, cell.output
            self.cells.append(cell)
            if plan.auxiliary and index == self.middle:
                height, breadth = (_halved(side, newer.halvings, plan) for side in image[1:])
                self.auxiliary_head = AuxiliaryHead(newer.channels, height, breadth, outputs)
        self.activates = plan.style.activates_last
        self.classifier = nn.Linear(newer.channels, outputs, bias=plan.style.classifier_bias)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        older, newer = self.stem(images)
        auxiliary: Tensor | None = None
        for index, cell in enumerate(self.cells):
            older, newer = older if self.stays[index] else newer, cell(newer, older)
            if self.training and index == self.middle and self.auxiliary_head is not None:
                auxiliary = self.auxiliary_head(newer)
        if self.activates:
            newer = functional.relu(newer)
        logits: Tensor = self.classifier(newer.mean((2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)


class Stem(nn.Module):
    """The first layers: they give the first cell its h[k-2] and h[k-1], which are one where there is no ``more``."""

    def __init__(self, first: nn.Sequential, more: nn.Sequential | None = None) -> None:
        super().__init__()
        self.first = first
        self.more = more

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        older = self.first(images)
        return older, older if self.more is None else self.more(older)


def _stem(plan: Plan, colours: int) -> tuple[Stem, Map | None, Map]:
    """Return the stem and the maps that the first cell gets for h[k-2] and h[k-1]."""
    width = plan.stem
    if plan.skeleton == "cifar" or plan.begins_with_cells:
        stride, padding = (1, 1) if plan.skeleton == "cifar" else (2, 0)
        first = nn.Sequential(nn.Conv2d(colours, width, 3, stride, padding, bias=False), nn.BatchNorm2d(width))
        made = Map(width, stride - 1)
        return Stem(first), None if plan.style.first_older == "nothing" else made, made
    half = max(1, width // 2)
    first = nn.Sequential(
        nn.Conv2d(colours, half, 3, 2, 1, bias=False),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        nn.Conv2d(half, width, 3, 2, 1, bias=False),
        nn.BatchNorm2d(width),
    )
    more = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width))
    return Stem(first, more), Map(width, 2), Map(width, 3)


def _halved(side: int, halvings: int, plan: Plan) -> int:
    """Return the side of a map that was halved so often."""
    if plan.begins_with_cells:
        side, halvings = (side - 1) // 2, halvings - 1  # the first convolution has no padding
    for _ in range(halvings):
        side = (side + 1) // 2
    return side
