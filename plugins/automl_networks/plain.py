"""Plain stacks of 3 x 3 convolutions, which see as far as larger kernels for fewer weights."""

from __future__ import annotations

from torch import nn

from automl_networks.pooling import Pool

REPEATS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}  # convolutions a stage
CHANNELS = (64, 128, 256, 512, 512)


def plain_stage(
    inputs: int, outputs: int, repeats: int, stride: int = 1, *, norm: bool = False, bias: bool = True
) -> nn.Sequential:
    """Return 3 x 3 convolutions, each with a ReLU and, if told, batch normalisation, and a pool of 2 x 2.

    Stride 1 leaves the pool out; with it the size becomes ceil(size / 2) (Simonyan & Zisserman, 2015).
    """
    layers: list[nn.Module] = []
    for _ in range(repeats):
        layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias))
        if norm:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.ReLU(inplace=True))
        inputs = outputs
    if stride > 1:
        layers.append(Pool("maximum", 2, stride))
    return nn.Sequential(*layers)
