"""Squeeze and excite: every channel weighted by what all channels hold."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Multiply each channel by a number in (0, 1): the mean of the map, two 1 x 1 convolutions with biases, sigmoid.

    ``squeezed`` is the width between the two (Hu et al., 2018). ``gate`` takes the sigmoid's place.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        activation: Callable[[], nn.Module] = nn.ReLU,
        gate: Callable[[], nn.Module] = nn.Sigmoid,
    ) -> None:
        super().__init__()
        self.weigh = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            activation(),
            nn.Conv2d(squeezed, channels, 1),
            gate(),
        )

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.weigh(x)
        return x * weights
