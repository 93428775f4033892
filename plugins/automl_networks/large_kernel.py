"""Large kernels at the price of small ones, and what refines and enlarges the maps that they make."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl import BadInput


class GlobalConvolution(nn.Module):
    """A kernel x kernel window seen by two branches, k x 1 then 1 x k and 1 x k then k x 1, whose sum it returns.

    No non-linearity is inside; 2 k (inputs + outputs) outputs weights, and biases (Peng et al., 2017). Raises
    BadInput for an even kernel, which has no middle.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 15) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise BadInput(
                f"kernel={kernel} of a global convolution is even, so that it has no middle pixel: "
                f"give kernel={kernel - 1} or {kernel + 1}"
            )
        tall, wide = (kernel, 1), (1, kernel)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(inputs, outputs, first, padding="same"), nn.Conv2d(outputs, outputs, second, padding="same")
            )
            for first, second in ((tall, wide), (wide, tall))
        )

    def initialise(self) -> None:
        """Draw weights that keep the size of their inputs, for by their outputs the few that score classes explode."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.branches
        total: Tensor = first(x) + second(x)
        return total


class BoundaryRefinement(nn.Module):
    """The input, and what 3 x 3, ReLU and 3 x 3 with biases make of it (Peng et al., 2017)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.last = nn.Conv2d(channels, channels, 3, padding=1)

    def initialise(self) -> None:
        """Begin near the identity, for a network has many in a row."""
        nn.init.normal_(self.last.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        refined: Tensor = x + self.last(functional.relu(self.first(x)))
        return refined


class Enlarged(nn.Module):
    """A 4 x 4 transposed convolution with a stride, cut to a size of at most stride times its input's.

    It begins as bilinear interpolation (Long et al., 2015).
    """

    def __init__(self, channels: int, stride: int = 2) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(channels, channels, 4, stride, padding=1)
        self.stride = stride

    def initialise(self) -> None:
        """Draw small weights, and add to each channel's own what interpolates."""
        weight = self.enlarge.weight
        nn.init.normal_(weight, std=0.01)
        side = torch.tensor([1.0, 3.0, 3.0, 1.0], device=weight.device) * self.stride / 8
        with torch.no_grad():
            weight += torch.eye(len(weight), device=weight.device)[:, :, None, None] * torch.outer(side, side)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        large: Tensor = self.enlarge(x)
        return large[..., : size[0], : size[1]]
