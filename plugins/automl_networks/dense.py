"""Densely connected layers: each reads all that came before it in its block, and adds a few channels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl_networks.pooling import Pool


class DenseLayer(nn.Module):
    """The input and, after it, ``growth`` channels computed of it (Huang et al., 2017).

    They are BN, ReLU, 3 x 3 and, with a bottleneck, before that BN, ReLU, 1 x 1 to four times the growth.
    """

    def __init__(self, inputs: int, growth: int, bottleneck: bool = True) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if bottleneck:
            layers += [*_activated(inputs), nn.Conv2d(inputs, 4 * growth, 1, bias=False)]
            inputs = 4 * growth
        layers += [*_activated(inputs), nn.Conv2d(inputs, growth, 3, padding=1, bias=False)]
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], dim=1)


def dense_block(inputs: int, layers: int, growth: int, bottleneck: bool = True) -> nn.Sequential:
    """Return so many dense layers, whose last gives inputs + layers x growth channels."""
    return nn.Sequential(*(DenseLayer(inputs + layer * growth, growth, bottleneck) for layer in range(layers)))


def transition(inputs: int, outputs: int, stride: int = 2) -> nn.Sequential:
    """Return BN, ReLU, 1 x 1 and a mean over 2 x 2, left out with stride 1; the size becomes ceil(size / stride)."""
    layers = [*_activated(inputs), nn.Conv2d(inputs, outputs, 1, bias=False)]
    return nn.Sequential(*layers, *([Pool("average", 2, stride)] if stride > 1 else []))


def dense_stages(
    channels: int, layers: tuple[int, ...], growth: int, strides: list[int], bottleneck: bool, compression: float
) -> tuple[list[nn.Module], int]:
    """Return dense blocks with transitions between them, and last BN and ReLU; and how many channels those give.

    A transition with compression c keeps the whole part of c times its channels.
    """
    stages: list[nn.Module] = []
    for place, number in enumerate(layers):
        if place > 0:
            kept = int(channels * compression)
            stages.append(transition(channels, kept, strides[place - 1]))
            channels = kept
        stages.append(dense_block(channels, number, growth, bottleneck))
        channels += number * growth
    return [*stages, nn.Sequential(*_activated(channels))], channels


def _activated(channels: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
