"""Residual networks for images of 32 x 32."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

from annotated_types import Gt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.residual import PreActivation, basic, stages_of
from automl_networks.widths import make_divisible


@dataclass
class ResNetCifar(HandDesigned):
    """ResNet for small images (He et al., 2016): with depth 56 853,018 parameters, 125,485,696 multiply-adds.

    For ten classes and 32 x 32; 20: 269,722 and 40,551,040; 32: 464,154 and 68,862,592; 44: 658,586 and 97,174,144;
    110: 1,727,962 and 252,887,680. Depth 164 is made of pre-activated bottlenecks (He et al., 2016b): 1,703,258 and
    247,646,720. Where a unit changes the shape, ``shortcut`` "A" takes every second pixel and adds channels of zeros,
    "B" projects; bottlenecks always project. ``width`` multiplies every number of channels: the stem's 16 is
    rounded, and the others follow. On images below 16 x 16 strides are left out.
    """

    depth: Annotated[Literal[20, 32, 44, 56, 110, 164], DECIDABLE] = 56
    shortcut: Annotated[Literal["A", "B"], DECIDABLE] = "A"
    width: Annotated[float, Gt(0), DECIDABLE] = 1.0

    published: ClassVar[tuple[int, ...]] = (2, 2)
    smallest: ClassVar[int] = 8

    def network(self, image: Image, outputs: int) -> Classifier:
        strides = [1, *self.steps(image)]
        narrow = [make_divisible(16 * self.width, 1) * growth for growth in (1, 2, 4)]
        if self.depth == 164:
            widths = [4 * channels for channels in narrow]
            stages = stages_of(PreActivation, narrow[0], widths, [(self.depth - 2) // 9] * 3, strides)
            stages[-1].extend([nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)])
            stem: nn.Module = nn.Conv2d(image[0], narrow[0], 3, padding=1, bias=False)
        else:
            widths = narrow
            unit = partial(basic, shortcut=self.shortcut)
            stages = stages_of(unit, narrow[0], widths, [(self.depth - 2) // 6] * 3, strides)
            stem = conv_norm(image[0], narrow[0], 3)
        return Classifier(stem, stages, pooled_linear(widths[-1], outputs))
