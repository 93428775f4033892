"""Residual units: a branch of convolutions, added to what goes around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from automl_networks.conv_norm import conv_norm
from automl_networks.convolutions import Subsample

Shortcut = Literal["A", "B"]  # of units that change the shape: every second pixel and channels of zeros; a projection


class Residual(nn.Module):
    """The sum of branch and shortcut, then ReLU (He et al., 2016)."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.shortcut(x) + self.branch(x))


def basic(inputs: int, outputs: int, stride: int = 1, shortcut: Shortcut = "B") -> Residual:
    """Return the unit of two 3 x 3 convolutions; the first takes the stride (He et al., 2016)."""
    branch = nn.Sequential(
        conv_norm(inputs, outputs, 3, stride),
        conv_norm(outputs, outputs, 3, activation=None),
    )
    return Residual(branch, _around(inputs, outputs, stride, shortcut))


def bottleneck(
    inputs: int,
    outputs: int,
    stride: int = 1,
    hidden: int | None = None,
    groups: int = 1,
    stride_on: Literal["1x1", "3x3"] = "3x3",
) -> Residual:
    """Return the unit of 1 x 1 to the hidden width, 3 x 3 in groups, 1 x 1 to the outputs.

    The hidden width is a quarter of the outputs by default. One group is a residual network's (He et al., 2016),
    several are ResNeXt's (Xie et al., 2017). The paper has the stride on the first 1 x 1.
    """
    hidden = outputs // 4 if hidden is None else hidden
    first, second = (stride, 1) if stride_on == "1x1" else (1, stride)
    branch = nn.Sequential(
        conv_norm(inputs, hidden, 1, first),
        conv_norm(hidden, hidden, 3, second, groups=groups),
        conv_norm(hidden, outputs, activation=None),
    )
    return Residual(branch, _around(inputs, outputs, stride, "B"))


class PreActivation(nn.Module):
    """A bottleneck with normalisation and ReLU before each convolution, none after the sum (He et al., 2016b).

    A unit that changes the shape projects what was normalised, by a 1 x 1 convolution alone.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        hidden = outputs // 4
        self.activated = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True))
        self.branch = nn.Sequential(
            conv_norm(inputs, hidden),
            conv_norm(hidden, hidden, 3, stride),
            nn.Conv2d(hidden, outputs, 1, bias=False),
        )
        changes = stride > 1 or inputs != outputs
        self.project = nn.Sequential(Subsample(stride), nn.Conv2d(inputs, outputs, 1, bias=False)) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        activated = self.activated(x)
        around = x if self.project is None else self.project(activated)
        total: Tensor = around + self.branch(activated)
        return total


class ZeroPadded(nn.Module):
    """Every so many pixels in both directions, and channels of zeros after those there are (He et al., 2016, A)."""

    def __init__(self, more: int, stride: int) -> None:
        super().__init__()
        self.more = more
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[..., :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.more))

    def extra_repr(self) -> str:
        return f"more={self.more}, stride={self.stride}"


def residual_stem(inputs: int, outputs: int, strides: Sequence[int]) -> nn.Sequential:
    """Return a 7 x 7 convolution with the first stride, and a 3 x 3 pool with the second, left out where that is 1."""
    pool = nn.MaxPool2d(3, strides[1], 1) if strides[1] > 1 else nn.Identity()
    return nn.Sequential(conv_norm(inputs, outputs, 7, strides[0]), pool)


def stages_of(
    unit: Callable[[int, int, int], nn.Module],
    inputs: int,
    widths: Sequence[int],
    repeats: Sequence[int],
    strides: Sequence[int],
) -> list[nn.Sequential]:
    """Return a stage for each width, of so many units of inputs, outputs and stride; the first takes the stride."""
    stages = []
    for outputs, number, stride in zip(widths, repeats, strides, strict=True):
        units = []
        for place in range(number):
            units.append(unit(inputs, outputs, stride if place == 0 else 1))
            inputs = outputs
        stages.append(nn.Sequential(*units))
    return stages


def _around(inputs: int, outputs: int, stride: int, kind: Shortcut) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if kind == "A":
        return ZeroPadded(outputs - inputs, stride)
    return conv_norm(inputs, outputs, 1, stride, activation=None)
