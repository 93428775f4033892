"""IGCV3: inverted residuals of interleaved low-rank group convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier, pooled_linear
from automl_networks.conv_norm import conv_norm
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.interleaved import InterleavedResidual
from automl_networks.widths import make_divisible

# expansion, channels, repeats, stride of the first: MobileNetV2's, and twice as deep but at its ends
_STAGES = ((1, 16, 1, 1), (6, 24, 4, 2), (6, 32, 6, 2), (6, 64, 8, 2), (6, 96, 6, 1), (6, 160, 6, 2), (6, 320, 1, 1))


@dataclass
class IGCV3(HandDesigned):
    """IGCV3-D (Sun et al., 2018): 3,491,688 parameters, 312,970,176 multiply-adds at 224 x 224.

    MobileNetV2 with both pointwise layers in two groups and twice the depth. ``width`` multiplies every number of
    channels, rounded to even ones; the last 1,280 only where it is above 1. On small images the stem's stride, then
    the first stages', is left out.
    """

    width: Annotated[float, Gt(0), DECIDABLE] = 1.0
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.2

    def network(self, image: Image, outputs: int) -> Classifier:
        steps = iter(self.steps(image))
        channels = make_divisible(32 * self.width, 2)
        stem = conv_norm(image[0], channels, 3, next(steps), activation=nn.ReLU6)
        stages = []
        for expansion, base, repeats, stride in _STAGES:
            stride = next(steps) if stride == 2 else 1
            units = []
            for repeat in range(repeats):
                outward = make_divisible(base * self.width, 2)
                units.append(InterleavedResidual(channels, outward, stride if repeat == 0 else 1, expansion))
                channels = outward
            stages.append(nn.Sequential(*units))
        last = make_divisible(1280 * max(1.0, self.width), 2)
        stages.append(conv_norm(channels, last, activation=nn.ReLU6))
        return Classifier(stem, stages, pooled_linear(last, outputs, self.dropout))
