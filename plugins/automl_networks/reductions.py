"""Halving a map by 1 x 1 convolutions without losing three pixels of four."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_networks.activation import PreActivated


class Halves(nn.Module):
    """Half the size, rounded up, by two 1 x 1 convolutions of every second pixel, one of them a pixel further.

    Of an odd number of outputs the second makes one more.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.here = nn.Conv2d(inputs, outputs // 2, 1, bias=False) if outputs > 1 else None
        self.further = nn.Conv2d(inputs, outputs - outputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        # the map moved by a pixel; an odd side gets a last pixel of zeros
        moved = functional.pad(x, (-1, width % 2, -1, height % 2))
        # the pixels are left out before the convolution, not by its stride: see Subsample
        further: Tensor = self.further(moved[..., ::2, ::2])
        return further if self.here is None else torch.cat([self.here(x[..., ::2, ::2]), further], dim=1)


def factorised_reduction(inputs: int, outputs: int, activate: bool = True) -> nn.Sequential:
    """Return a ReLU (unless told otherwise), the halves and batch normalisation (Zoph et al., 2018)."""
    kind = PreActivated if activate else nn.Sequential
    return kind(Halves(inputs, outputs), nn.BatchNorm2d(outputs))
