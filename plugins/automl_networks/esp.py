"""Efficient spatial pyramids: one narrow map, seen at several dilations, the views summed step by step."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from automl import BadInput
from automl_networks.conv_norm import conv_norm
from automl_networks.dilated_depthwise import DilatedDepthwise
from automl_networks.pooling import Pool


def norm_prelu(channels: int, eps: float = 1e-5) -> nn.Sequential:
    """Return batch normalisation and a PReLU with a slope for each channel."""
    return nn.Sequential(nn.BatchNorm2d(channels, eps=eps), nn.PReLU(channels))


class ESP(nn.Module):
    """The module of ESPNet (Mehta et al., 2018): dilations 1, 2, 4, ... of a map reduced to outputs / branches.

    Hierarchical feature fusion: from dilation 4 on, a branch adds to its view those of the smaller dilations but the
    first; the first has the channels that the division leaves over. ``kernel`` is that of the reduction: 1, where it
    strides 3. The input is added where its channels equal the outputs, if ``add``, and stride is 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int = 1,
        branches: int = 5,
        kernel: int | None = None,
        add: bool = True,
        eps: float = 1e-3,
    ) -> None:
        super().__init__()
        if not 1 <= branches <= outputs:
            raise BadInput(
                f"branches={branches} of an ESP module share its outputs={outputs}, at least one each: "
                f"give branches={min(max(branches, 1), outputs)}"
            )
        kernel = kernel or (3 if stride > 1 else 1)
        narrow = outputs // branches
        self.reduce = nn.Conv2d(inputs, narrow, kernel, stride, kernel // 2, bias=False)
        self.branches = nn.ModuleList(
            nn.Conv2d(
                narrow,
                narrow if place else outputs - narrow * (branches - 1),
                3,
                padding=2**place,
                dilation=2**place,
                bias=False,
            )
            for place in range(branches)
        )
        self.activate = norm_prelu(outputs, eps)
        self.adds = add and stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        views = [branch(reduced) for branch in self.branches]
        fused = torch.cat([views[0], *_running_sums(views[1:])], dim=1)
        active: Tensor = self.activate(x + fused if self.adds else fused)
        return active


def _running_sums(views: list[Tensor]) -> list[Tensor]:
    sums = views[:1]
    for view in views[1:]:
        sums.append(sums[-1] + view)
    return sums


def dilations(branches: int, limit: int) -> list[int]:
    """Return the dilations of EESP's branches: their kernels span 3, 5, 7, ... pixels, those beyond the limit 3.

    The smallest come first (Mehta et al., 2019; the limit is the paper's r_lim).
    """
    spans = (3 + 2 * branch for branch in range(branches))
    return sorted((span - 1) // 2 if span <= limit else 1 for span in spans)


class DepthwisePyramid(nn.Module):
    """What EESP does to its input: grouped 1 x 1, depthwise dilated branches, fused, grouped 1 x 1, linear at the end.

    Every branch adds to its view those of all smaller dilations. There are as many groups as branches, which divide
    the inputs, and whose square divides the outputs.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, branches: int = 4, limit: int = 9) -> None:
        super().__init__()
        for name, found, divisor in (("inputs", inputs, branches), ("outputs", outputs, branches**2)):
            if found % divisor or found < 1:
                raise BadInput(
                    f"{name}={found} of an EESP unit of {branches} branches is no multiple of {divisor}: "
                    f"give {name}={max(1, round(found / divisor)) * divisor}"
                )
        narrow = outputs // branches
        self.reduce = conv_norm(inputs, narrow, groups=branches, activation=partial(nn.PReLU, narrow))
        self.branches = nn.ModuleList(
            DilatedDepthwise(narrow, 3, stride, dilation) for dilation in dilations(branches, limit)
        )
        self.activate = norm_prelu(outputs)
        self.expand = conv_norm(outputs, outputs, groups=branches, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        views = [branch(reduced) for branch in self.branches]
        expanded: Tensor = self.expand(self.activate(torch.cat(_running_sums(views), dim=1)))
        return expanded


class EESP(nn.Module):
    """The unit of ESPNetV2 (Mehta et al., 2019): the pyramid, the input added where its shape is equal, PReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, branches: int = 4, limit: int = 9) -> None:
        super().__init__()
        self.pyramid = DepthwisePyramid(inputs, outputs, stride, branches, limit)
        self.activate = nn.PReLU(outputs)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        made = self.pyramid(x)
        active: Tensor = self.activate(x + made if self.adds else made)
        return active


class StridedEESP(nn.Module):
    """The unit of ESPNetV2 that makes maps smaller: the pooled input beside a pyramid, PReLU (Mehta et al., 2019).

    With ``colours`` it is called with the image too, brought to the size of its outputs, of which it adds a
    convolution of 3 x 3 and one of 1 x 1: the reinforcement of the input. Stride 1 leaves the pool out.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 2, branches: int = 4, limit: int = 9, colours: int = 0
    ) -> None:
        super().__init__()
        self.pool = halved(stride)
        self.pyramid = DepthwisePyramid(inputs, outputs - inputs, stride, branches, limit)
        self.reinforce: nn.Sequential | None = None
        if colours:
            self.reinforce = nn.Sequential(
                conv_norm(colours, colours, 3, activation=partial(nn.PReLU, colours)),
                conv_norm(colours, outputs, activation=None),
            )
        self.activate = nn.PReLU(outputs)

    def forward(self, x: Tensor, image: Tensor | None = None) -> Tensor:
        made = torch.cat([self.pool(x), self.pyramid(x)], dim=1)
        if self.reinforce is not None:
            made = made + self.reinforce(image)
        active: Tensor = self.activate(made)
        return active


def halved(stride: int) -> nn.Module:
    """Return the 3 x 3 average pool by which both networks bring images and maps to half their size; 1: as it is."""
    return Pool("average", 3, stride) if stride > 1 else nn.Identity()
