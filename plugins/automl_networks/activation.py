"""Layers that read their input through a ReLU, which many readers of one map can share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PreActivated(nn.Sequential):
    """A ReLU, then the layers in order.

    The states of a cell have many readers. Rather than have each compute the same ReLU, whoever holds the state
    computes it once and says so by ``activated=True``.
    """

    shares_relu = True

    def forward(self, x: Tensor, activated: bool = False) -> Tensor:
        x = x if activated else functional.relu(x)
        for layer in self:
            x = layer(x)
        return x
