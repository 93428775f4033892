"""Depthwise separable convolutions of cell-based networks."""

from __future__ import annotations

from torch import nn

from automl_networks.activation import PreActivated
from automl_networks.depthwise import Depthwise
from automl_networks.dilated_depthwise import DilatedDepthwise


def separable(
    inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1, repeats: int = 2
) -> PreActivated:
    """Return ReLU, a depthwise and a 1 x 1 convolution and batch normalisation, twice over (Zoph et al., 2018).

    The first time takes the stride and changes the channels. Dilated, published cells have it once (Liu et al.,
    2019) or twice (Real et al., 2019).
    """
    layers: list[nn.Module] = []
    for repeat in range(repeats):
        channels, step = (inputs, stride) if repeat == 0 else (outputs, 1)
        if repeat > 0:
            layers.append(nn.ReLU(inplace=True))
        if dilation > 1:
            layers.append(DilatedDepthwise(channels, kernel, step, dilation))
        else:
            layers.append(Depthwise(channels, kernel, step))
        layers += [
            nn.Conv2d(channels, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
    return PreActivated(*layers)


def depthwise(inputs: int, outputs: int, kernel: int, stride: int = 1) -> PreActivated:
    """Return ReLU, a depthwise convolution and batch normalisation; 1 x 1 ones to another width."""
    layers: list[nn.Module] = [Depthwise(inputs, kernel, stride), nn.BatchNorm2d(inputs)]
    if inputs != outputs:
        layers += [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return PreActivated(*layers)
