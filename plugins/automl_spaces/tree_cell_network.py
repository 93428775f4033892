"""Networks of tree-structured cells."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from automl_networks.classifier import Classifier
from automl_networks.convolutions import convolution
from automl_spaces.staged import staged
from automl_spaces.tree_cell import Node


def network(cell: Node, stages: int, cells: int, channels: int, colours: int, outputs: int) -> Classifier:
    """Return images to logits, N x outputs: residual units of the cell, between stages a convolution of stride 2."""
    between = partial(convolution, kernel=3, stride=2)
    return staged(partial(TreeUnit, cell), between, stages, cells, channels, colours, outputs)


class TreeUnit(nn.Module):
    """The input and, added, a 1 x 1 convolution, the tree, and another one of it."""

    def __init__(self, cell: Node, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            convolution(channels, channels, 1), Tree(cell, channels), convolution(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.branch(x)
        return made


class Tree(nn.Module):
    """One node: from a map to one of as many channels."""

    def __init__(self, node: Node, channels: int) -> None:
        super().__init__()
        self.deals = node.merge == "concat2"
        width = channels // len(node.branches) if self.deals else channels
        self.branches = nn.ModuleList()
        for op, inner in node.branches:
            made = op(width, width, 1)
            self.branches.append(made if inner is None else nn.Sequential(made, Tree(inner, width)))

    def forward(self, x: Tensor) -> Tensor:
        if self.deals:
            parts = x.chunk(len(self.branches), dim=1)
            return torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], dim=1)
        made = [branch(x) for branch in self.branches]
        total: Tensor = sum(made[1:], made[0])
        return total
