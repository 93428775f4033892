"""A second classifier in the middle of a network, which helps the training of the first half."""

from __future__ import annotations

from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """Pool to 2 x 2, 1 x 1 to 128 channels, one convolution over all of the map to 768, linear.

    On 8 x 8 maps these are the 5 x 5 windows with stride 3 of the published head (Zoph et al., 2018; Liu et al.,
    2019); on any other size, windows that make 2 x 2 as well (1 x 1 of a single pixel).
    """

    training_only = True

    def __init__(self, channels: int, height: int, width: int, outputs: int) -> None:
        super().__init__()
        windows = [_window(side) for side in (height, width)]
        kernel, stride = zip(*windows, strict=True)
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.AvgPool2d(kernel, stride),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, 768, (min(height, 2), min(width, 2)), bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(768, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


def _window(side: int) -> tuple[int, int]:
    """Return the kernel and stride of the two windows that cover a side, of one where it is a single pixel."""
    if side == 1:
        return 1, 1
    kernel = max((side + 1) // 2, min(5, side - 1))
    return kernel, side - kernel
