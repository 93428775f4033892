"""Inception blocks: kernels of several sizes side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import nn

from automl_networks.branches import Branches
from automl_networks.conv_norm import conv_norm
from automl_networks.pooling import Pool
from automl_networks.widths import make_divisible

Layer = tuple[int, int | tuple[int, int]]  # channels, kernel
Branch = Sequence[Layer | Literal["average", "maximum"] | list[Layer]]

normed = partial(conv_norm, eps=1e-3)


def biased(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, *, padding: int | None = None) -> nn.Sequential:
    """Return a convolution with bias and ReLU; by default padded by half the kernel."""
    padding = kernel // 2 if padding is None else padding
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU(inplace=True))


class Inception(Branches):
    """Branches of layers, their maps one after the other along the channels (Szegedy et al., 2015, 2016).

    A branch lists its layers: (channels, kernel) is a convolution, made by ``layer``, "average" and "maximum" are
    pools of 3 x 3, and a list holds convolutions that stand side by side. ``width`` multiplies all channels, rounded to
    multiples of 8; ``outputs`` is how many the block has in the end. The last layer of each branch takes the stride,
    and with it is ``padded`` or not: the size becomes ceil(size / stride), or that of the windows of 3 inside.
    """

    outputs: int

    def __init__(
        self,
        inputs: int,
        *branches: Branch,
        stride: int = 1,
        padded: bool = True,
        layer: Callable[..., nn.Module] = normed,
        width: float = 1.0,
    ) -> None:
        made: list[nn.Module] = []
        total = 0
        for branch in branches:
            channels = inputs
            layers: list[nn.Module] = []
            for place, described in enumerate(branch):
                step = stride if place == len(branch) - 1 else 1
                inside = step > 1 and not padded
                if isinstance(described, str):
                    layers.append(nn.MaxPool2d(3, step) if inside else Pool(described, 3, step))
                elif isinstance(described, list):
                    fork = Inception(channels, *([one] for one in described), stride=step, layer=layer, width=width)
                    layers.append(fork)
                    channels = fork.outputs
                else:
                    given, channels = channels, described[0] if width == 1 else make_divisible(described[0] * width)
                    layers.append(layer(given, channels, described[1], step, padding=0 if inside else None))
            made.append(nn.Sequential(*layers))
            total += channels
        super().__init__(*made)
        self.outputs = total


def inception_v1(
    one: int, reduce3: int, three: int, reduce5: int, five: int, pooled: int, kernel: int = 5
) -> tuple[Branch, ...]:
    """Return the branches of GoogLeNet's blocks, by the columns of its table; ``kernel`` is that of the third."""
    return (
        [(one, 1)],
        [(reduce3, 1), (three, 3)],
        [(reduce5, 1), (five, kernel)],
        ["maximum", (pooled, 1)],
    )


# Inception-v3, in its order (Szegedy et al., 2016; figures 5, 10, 6, 10, 7)


def stacked_kernels(pooled: int) -> tuple[Branch, ...]:
    """Return the branches at 35 x 35: a 5 x 5 and two 3 x 3; ``pooled`` channels are of the pool."""
    return [(64, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], ["average", (pooled, 1)]


REDUCTION_35: tuple[Branch, ...] = ([(384, 3)], [(64, 1), (96, 3), (96, 3)], ["maximum"])


def asymmetric_kernels(middle: int) -> tuple[Branch, ...]:
    """Return the branches at 17 x 17: one and two 7 x 7, each a 1 x 7 and a 7 x 1 of ``middle`` channels between."""
    wide, high = (1, 7), (7, 1)
    return (
        [(192, 1)],
        [(middle, 1), (middle, wide), (192, high)],
        [(middle, 1), (middle, high), (middle, wide), (middle, high), (192, wide)],
        ["average", (192, 1)],
    )


REDUCTION_17: tuple[Branch, ...] = (
    [(192, 1), (320, 3)],
    [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)],
    ["maximum"],
)
FORKED_KERNELS: tuple[Branch, ...] = (
    [(320, 1)],
    [(384, 1), [(384, (1, 3)), (384, (3, 1))]],
    [(448, 1), (384, 3), [(384, (1, 3)), (384, (3, 1))]],
    ["average", (192, 1)],
)
