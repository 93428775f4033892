"""The units of ShuffleNets: grouped or halved channels, mixed by a shuffle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from automl import BadInput
from automl_networks.conv_norm import conv_norm
from automl_networks.shuffle import ChannelShuffle, shuffle

Form = Literal["halves", "release"]
REPEATS = (4, 8, 4)  # units of each stage, in both versions


class ShuffleUnitV1(nn.Module):
    """Grouped 1 x 1, shuffle, depthwise 3 x 3, grouped 1 x 1; inside a quarter of the outputs (Zhang et al., 2018).

    The input is added; or, where there are more outputs, it is their first channels, averaged 3 x 3 at a stride.
    The width inside is rounded up to a multiple of the groups, which must divide the outputs and, unless ``thin``,
    the inputs. ``thin`` inputs are not grouped in the first layer.
    """

    def __init__(self, inputs: int, outputs: int, groups: int, stride: int = 1, thin: bool = False) -> None:
        super().__init__()
        inside = -(-(outputs // 4) // groups) * groups
        self.joins = outputs > inputs
        self.shortcut = nn.AvgPool2d(3, stride, 1) if stride > 1 else nn.Identity()
        self.branch = nn.Sequential(
            conv_norm(inputs, inside, groups=1 if thin else groups),
            ChannelShuffle(groups),
            conv_norm(inside, inside, 3, stride, groups=inside, activation=None),
            conv_norm(inside, outputs - inputs if self.joins else outputs, groups=groups, activation=None),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        shortcut, branch = self.shortcut(x), self.branch(x)
        out: Tensor = self.activation(torch.cat([shortcut, branch], dim=1) if self.joins else shortcut + branch)
        return out


class ShuffleUnitV2(nn.Module):
    """Half of the channels pass, half go through 1 x 1, depthwise, 1 x 1; then a shuffle of both (Ma et al., 2018).

    Where size or channels change, all of them go through both: the first half of the outputs lacks the first 1 x 1.
    Form "halves" shuffles the outputs. In the authors' "release" the inputs are unshuffled before they are
    halved, and a unit that changes the channels keeps the inputs' number on its first path. Outputs must be even.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, kernel: int = 3, form: Form = "halves") -> None:
        super().__init__()
        if outputs % 2:
            raise BadInput(f"a ShuffleNetV2 unit halves its outputs, and {outputs} is odd: give it {outputs + 1}")
        half = outputs // 2
        self.form = form
        self.halves = stride == 1 and inputs == outputs
        first, wide = (half, half) if self.halves or form == "halves" else (inputs, outputs - inputs)
        self.shortcut = nn.Sequential()
        if not self.halves:
            self.shortcut.append(conv_norm(inputs, inputs, kernel, stride, groups=inputs, activation=None))
            self.shortcut.append(conv_norm(inputs, first))
        self.branch = nn.Sequential(
            conv_norm(half if self.halves else inputs, half),
            conv_norm(half, half, kernel, stride, groups=half, activation=None),
            conv_norm(half, wide),
        )

    def forward(self, x: Tensor) -> Tensor:
        passing = going = x
        if self.halves:
            passing, going = (shuffle(x, x.shape[1] // 2) if self.form == "release" else x).chunk(2, dim=1)
        out = torch.cat([self.shortcut(passing), self.branch(going)], dim=1)
        return shuffle(out, 2) if self.form == "halves" else out


def shuffle_stages(
    channels: Sequence[int], steps: Iterable[int], *, kernel: int = 3, form: Form = "halves"
) -> list[nn.Sequential]:
    """Return the three stages of 4, 8 and 4 ShuffleNetV2 units, of which the first has the step and more channels.

    ``channels`` are those before the stages, then those of each.
    """
    return [
        nn.Sequential(
            ShuffleUnitV2(inputs, outputs, step, kernel, form),
            *(ShuffleUnitV2(outputs, outputs, 1, kernel, form) for _ in range(repeats - 1)),
        )
        for (inputs, outputs), step, repeats in zip(pairwise(channels), steps, REPEATS, strict=True)
    ]


def shuffle_stem(colours: int, channels: int, convolution: int, pool: int) -> nn.Sequential:
    """Return a 3 x 3 convolution and a 3 x 3 maximum of these strides; the pool is left out where its stride is 1."""
    stem = conv_norm(colours, channels, 3, convolution)
    return nn.Sequential(stem, nn.MaxPool2d(3, pool, 1)) if pool > 1 else stem


def widening(channels: Iterable[float], multiple: int) -> list[int]:
    """Return the multiples nearest to so many channels, each more than the one before: units only add channels."""
    widths: list[int] = []
    for wanted in channels:
        widths.append(max(multiple * int(wanted / multiple + 0.5), (widths[-1] if widths else 0) + multiple))
    return widths
