"""IGCV3: inverted residuals of interleaved low-rank group convolutions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge, Gt, Lt
from torch import nn

from automl_networks.classifier import Classifier
from automl_networks.hand_designed import DECIDABLE, HandDesigned, Image
from automl_networks.interleaved import InterleavedResidual
from automl_networks.mobile import Stage, mobile_network, scaled, strides
from automl_networks.widths import make_divisible

# repeats, kernel, stride, expansion, channels: MobileNetV2's, and twice as deep but at its ends
_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(4, 3, 2, 6, 24),
    Stage(6, 3, 2, 6, 32),
    Stage(8, 3, 2, 6, 64),
    Stage(6, 3, 1, 6, 96),
    Stage(6, 3, 2, 6, 160),
    Stage(1, 3, 1, 6, 320),
)


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
        return mobile_network(
            image[0],
            outputs,
            scaled(_STAGES, self.width, 2),
            stem=make_divisible(32 * self.width, 2),
            head=make_divisible(1280 * max(1.0, self.width), 2),
            steps=self.steps(image, strides(_STAGES)),
            dropout=self.dropout,
            activation=nn.ReLU6,
            unit=_unit,
        )


def _unit(inputs: int, stage: Stage, stride: int) -> nn.Module:
    return InterleavedResidual(inputs, stage.outputs, stride, int(stage.expansion))
