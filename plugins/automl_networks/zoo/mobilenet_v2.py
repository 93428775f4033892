"""MobileNetV2: inverted residuals with linear bottlenecks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.inverted_residual import InvertedResidual
from automl_networks.widths import make_divisible

# expansion, channels, repeats, stride of the first (Sandler et al., 2018, table 2)
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


@dataclass
class MobileNetV2(HandDesigned):
    """MobileNetV2 (Sandler et al., 2018): 3,504,872 parameters, 300,774,272 multiply-adds at 224 x 224.

    ``width`` multiplies every number of channels, rounded to multiples of 8; the last 1,280 only where it is above 1.
    On small images the stem's stride, then the first stages', is left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def network(self, image: Image, outputs: int) -> Classifier:
        steps = iter(self.steps(image))
        channels = make_divisible(32 * self.width)
        stem = conv_norm(image[0], channels, 3, next(steps), activation=nn.ReLU6)
        stages = []
        for expansion, base, repeats, stride in _STAGES:
            stride = next(steps) if stride == 2 else 1
            units = []
            for repeat in range(repeats):
                outward = make_divisible(base * self.width)
                units.append(InvertedResidual(channels, outward, stride if repeat == 0 else 1, expansion))
                channels = outward
            stages.append(nn.Sequential(*units))
        last = make_divisible(1280 * max(1.0, self.width))
        stages.append(conv_norm(channels, last, activation=nn.ReLU6))
        return Classifier(stem, stages, pooled_linear(last, outputs, self.dropout))
