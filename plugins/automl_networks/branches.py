"""Modules side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Branches(nn.ModuleList):
    """Each module applied to the same input, their maps one after the other along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)
