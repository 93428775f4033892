"""Layers that read their input through a ReLU, which many readers of one map can share."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from automl_networks.abreast import through, weighed


class PreActivated(nn.Sequential):
    """A ReLU, then the layers in order.

    The states of a cell have many readers. Rather than have each compute the same ReLU, whoever holds the state
    computes it once and says so by ``activated=True``.
    """

    shares_relu = True

    def forward(self, x: Tensor, activated: bool = False) -> Tensor:
        return through(self, x if activated else functional.relu(x))

    @staticmethod
    def weighed(options: Sequence[PreActivated], x: Tensor, targets: Sequence[int], weights: Tensor) -> list[Tensor]:
        """Return sums of what they make of one map after its ReLU, each times its weight; targets say into which."""
        return weighed(options, x, targets, weights)
