"""Convolutions of cell-based networks: ReLU first, then the convolution, then batch normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from automl_networks.activation import PreActivated
from automl_networks.asymmetric import asymmetric


def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1) -> PreActivated:
    """Return ReLU, a kernel x kernel convolution and batch normalisation; the size becomes ceil(size / stride)."""
    padding = dilation * (kernel // 2)
    if kernel == 1 and stride > 1:
        return PreActivated(Subsample(stride), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
    return PreActivated(
        nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False), nn.BatchNorm2d(outputs)
    )


class Subsample(nn.Module):
    """Every so many pixels in both directions; the size becomes ceil(size / stride).

    With a 1 x 1 convolution after it this equals the strided convolution. PyTorch 2.13's own, on the CPU with several
    threads, channels-last, and channels that are no multiple of 16, writes beyond its memory when it computes the
    gradient of the weights (batches and maps of odd sizes: a crash, or wrong numbers).
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :: self.stride, :: self.stride]

    def extra_repr(self) -> str:
        return f"stride={self.stride}"


def factorised_convolution(inputs: int, outputs: int, length: int, stride: int = 1) -> PreActivated:
    """Return ReLU, a 1 x length and a length x 1 convolution and batch normalisation (Szegedy et al., 2016)."""
    pair = asymmetric(inputs, outputs, outputs, length, stride, bias=False)
    return PreActivated(*pair, nn.BatchNorm2d(outputs))


def bottleneck(inputs: int, outputs: int, kernels: tuple[tuple[int, int], ...], stride: int = 1) -> PreActivated:
    """Return convolutions with the given kernels at a quarter of the width, between two of 1 x 1 (Real et al., 2019).

    ReLU comes before and batch normalisation after each of them. A stride is taken along the longer side of a
    kernel, so that a 1 x 7 strides in width and a 7 x 1 in height.
    """
    narrow = max(1, outputs // 4)
    layers: list[nn.Module] = [nn.Conv2d(inputs, narrow, 1, bias=False), nn.BatchNorm2d(narrow)]
    for height, width in kernels:
        strides = (stride if height >= width else 1, stride if width >= height else 1)
        padding = (height // 2, width // 2)
        layers += [
            nn.ReLU(inplace=True),
            nn.Conv2d(narrow, narrow, (height, width), strides, padding, bias=False),
            nn.BatchNorm2d(narrow),
        ]
    layers += [nn.ReLU(inplace=True), nn.Conv2d(narrow, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
    return PreActivated(*layers)
