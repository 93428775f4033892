"""Networks of DPP-Net: densely connected cells, with averages over 2 x 2 between the stages."""

from __future__ import annotations

from math import gcd

import torch
from torch import Tensor, nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.depthwise import Depthwise
from automl_networks.learned_groups import LearnedGroupConvolution
from automl_networks.pooling import Pool
from automl_networks.shuffle import ChannelShuffle
from automl_spaces.dpp_net import GROUPS, Layers


def network(
    cell: Layers, stages: int, cells: int, channels: int, growth: int, colours: int, outputs: int
) -> Classifier:
    """Return images to logits, N x outputs: so many cells a stage; from one to the next layers add twice as much."""
    stem = nn.Conv2d(colours, channels, 3, padding=1, bias=False)
    rows = []
    for stage in range(stages):
        layers: list[nn.Module] = [Pool("average", 2, 2)] if stage else []
        for _ in range(cells):
            layers.append(DenseLayers(cell, channels, growth))
            channels += growth * len(cell)
        growth *= 2
        rows.append(nn.Sequential(*layers))
    head = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), *pooled_linear(channels, outputs))
    return Classifier(stem, rows, head)


class DenseLayers(nn.Module):
    """One cell: its input and, after it, what each layer makes of all channels before it."""

    def __init__(self, cell: Layers, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for norm, conv in cell:
            self.layers.append(nn.Sequential(norm(inputs, inputs, 1), conv(inputs, growth, 1)))
            inputs += growth

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], dim=1)
        return x


def normalisation(name: str, channels: int) -> nn.Module:
    """Return the normalisation of that name."""
    if name == "none":
        return nn.Identity()
    norm = nn.BatchNorm2d(channels)
    return norm if name == "bn" else nn.Sequential(norm, nn.ReLU(inplace=True))


def convolution(name: str, inputs: int, outputs: int) -> nn.Module:
    """Return the convolution of that name, which keeps the size; after a grouped 1 x 1 the groups are shuffled.

    Where strategies mix a part of the channels that the groups do not divide, there are fewer.
    """
    groups = gcd(GROUPS, inputs, outputs)
    match name:
        case "conv1x1":
            return nn.Conv2d(inputs, outputs, 1, bias=False)
        case "conv3x3":
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        case "group3x3":
            return nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False)
        case "depthwise3x3":
            return nn.Sequential(Depthwise(inputs, 3, 1), nn.Conv2d(inputs, outputs, 1, bias=False))
        case "learned_group1x1":
            return nn.Sequential(LearnedGroupConvolution(inputs, outputs, groups), ChannelShuffle(groups))
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, groups=groups, bias=False), ChannelShuffle(groups))
