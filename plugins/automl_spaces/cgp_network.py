"""Networks of Cartesian genetic programming, node by node."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.classifier import pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import Image
from automl_spaces.cgp import Node


class GridNetwork(nn.Module):
    """Images to logits, N x outputs: the active nodes in order, the mean over the last map, a linear layer."""

    def __init__(self, nodes: Sequence[Node], image: Image, outputs: int) -> None:
        super().__init__()
        self.reads = [node.reads for node in nodes[1:]]
        self.nodes = nn.ModuleList()
        channels = [image[0]]
        for function, reads in nodes[1:]:
            given = [channels[read] for read in reads]
            module, made = _function(function, given)
            self.nodes.append(module)
            channels.append(made)
        self.head = pooled_linear(channels[-1], outputs)

    def forward(self, images: Tensor) -> Tensor:
        states = [images]
        for reads, node in zip(self.reads, self.nodes, strict=True):
            states.append(node(*(states[read] for read in reads)))
        logits: Tensor = self.head(states[-1])
        return logits


def _function(name: str, given: Sequence[int]) -> tuple[nn.Module, int]:
    """Return the module of a function of maps with so many channels, and the channels that it makes."""
    if name == "concat":
        return Concat(), sum(given)
    if name == "sum":
        return Sum(), max(given)
    if name.endswith("_pool"):
        return Shrink(average=name == "avg_pool"), given[0]
    match = re.fullmatch(r"(\w+?)(\d)x\d_(\d+)", name)
    assert match is not None, name
    kernel, width = int(match[2]), int(match[3])
    if match[1] == "convolution":
        return conv_norm(given[0], width, kernel), width
    return Residual(given[0], width, kernel), max(given[0], width)


class Shrink(nn.Module):
    """Pooling over 2 x 2 that leaves maps of one pixel in height or width alone."""

    def __init__(self, average: bool) -> None:
        super().__init__()
        self.average = average

    def forward(self, x: Tensor) -> Tensor:
        if min(x.shape[-2:]) < 2:
            return x
        return functional.avg_pool2d(x, 2) if self.average else functional.max_pool2d(x, 2)


class Concat(nn.Module):
    """Two maps one after the other, at the size of the smaller."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cat(_of_one_size(x, y), dim=1)


class Sum(nn.Module):
    """ReLU of the sum of two maps, at the size of the smaller and the width of the wider."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return functional.relu(_sum(*_of_one_size(x, y)))


class Residual(nn.Module):
    """ReLU of the input and, added, two convolutions of it (He et al., 2016); the narrower is filled up by zeros."""

    def __init__(self, inputs: int, width: int, kernel: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(conv_norm(inputs, width, kernel), conv_norm(width, width, kernel, activation=None))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(_sum(x, self.branch(x)))


def _of_one_size(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return two maps, each pooled over 2 x 2 as long as it is larger than the other."""
    while x.shape[-2] > y.shape[-2] or x.shape[-1] > y.shape[-1]:
        x = functional.max_pool2d(x, 2)
    while y.shape[-2] > x.shape[-2] or y.shape[-1] > x.shape[-1]:
        y = functional.max_pool2d(y, 2)
    return x, y


def _sum(x: Tensor, y: Tensor) -> Tensor:
    missing = x.shape[1] - y.shape[1]
    if missing < 0:
        x, y, missing = y, x, -missing
    return x + functional.pad(y, (0, 0, 0, 0, 0, missing)) if missing else x + y
